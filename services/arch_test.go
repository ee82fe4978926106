package services

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "github.com/tickwire/tickwire/"

// allowed says which of our own packages each package of pkg may import; a package that is not here may not exist.
var allowed = map[string][]string{
	"pkg/market":    {},
	"pkg/book":      {"pkg/market"},
	"pkg/bar":       {"pkg/market"},
	"pkg/wire":      {"pkg/market"},
	"pkg/fanout":    {"pkg/market"},
	"pkg/auth":      {"pkg/market"},
	"pkg/sim":       {"pkg/market"},
	"pkg/signature": {},
	"pkg/stream":    {"pkg/market", "pkg/wire"},
	"pkg/client":    {"pkg/market", "pkg/book", "pkg/wire"},
}

// rooms are the parts of a service that know of each other no more than this.
var rooms = map[string][]string{
	"services/webhook/store":   {"pkg/market"},
	"services/webhook/deliver": {"services/webhook/store", "pkg/signature"},
	"services/webhook/rule":    {"pkg/market", "pkg/book", "pkg/wire", "pkg/stream", "pkg/bar"},
}

// fences says which libraries stay behind which of our packages, tests included.
var fences = []struct {
	library string
	inside  []string
}{
	{"github.com/segmentio/kafka-go", []string{"pkg/stream"}},
	{"github.com/lxzan/gws", []string{"services/ws", "pkg/client"}},
	{"github.com/valyala/fasthttp", []string{"services/sse", "services/webhook", "services/internal/rest", "services/internal/openapitest", "services/broker"}}, // the broker: its in-memory connections, no HTTP
	{"github.com/twmb/franz-go", []string{"services/broker"}},
	{"github.com/golang-jwt/jwt", []string{"pkg/auth"}},
	{"modernc.org/sqlite", []string{"services/webhook/store"}},
	{"github.com/jackc/pgx", []string{"services/webhook/store", "services/internal/testkit"}},
	{"github.com/pressly/goose", []string{"services/webhook/store"}},
	{"go.yaml.in/yaml", []string{"pkg/auth", "services/internal/openapitest"}},
}

// assemblers are the packages that may import services.
var assemblers = []string{"services/all", "services/cmd/tickwire"}

// notServices are the packages of the services module that hold no service of their own: anyone in the module may use them.
var notServices = []string{"services/internal/", "services/broker", "services/venue/"}

type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// packages lists every package of the three modules.
func packages(t *testing.T) []listed {
	t.Helper()
	var all []listed
	for _, module := range []string{"pkg", "services", "bench"} {
		cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
		cmd.Dir = filepath.Join("..", module)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list in %s: %v", module, err)
		}
		for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p listed
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("go list in %s: %v", module, err)
			}
			all = append(all, p)
		}
	}
	if len(all) < len(allowed) {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, root)
		rules, inPkg := allowed[name]
		room, inRoom := rooms[name]
		if strings.HasPrefix(name, "pkg/") && !inPkg {
			t.Errorf("%s: not in the layout; add it to the import rules and to docs/ARCHITECTURE.md", name)
		}
		for _, path := range p.Imports {
			ours, isOurs := strings.CutPrefix(path, root)
			switch {
			case !isOurs:
			case inPkg && !slices.Contains(rules, ours):
				t.Errorf("%s imports %s; it may import %v", name, ours, rules)
			case inRoom:
				if !slices.Contains(room, ours) && !within(ours, name) {
					t.Errorf("%s imports %s; it may import %v", name, ours, room)
				}
			case strings.HasPrefix(ours, "bench"):
				if !strings.HasPrefix(name, "bench") {
					t.Errorf("%s imports %s; nobody imports bench", name, ours)
				}
			case strings.HasPrefix(name, "bench") && strings.HasPrefix(ours, "services/") && ours != "services/all":
				t.Errorf("%s imports %s; of the services, bench may import services/all alone", name, ours)
			case strings.HasPrefix(name, "services/") && isService(ours) && !slices.Contains(assemblers, name) && !within(name, ours) && !within(ours, name):
				t.Errorf("%s imports %s; no service imports another", name, ours)
			}
		}
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, f := range fences {
				if strings.HasPrefix(path, f.library) && !slices.ContainsFunc(f.inside, func(in string) bool { return within(name, in) }) {
					t.Errorf("%s imports %s, which stays inside %v", name, path, f.inside)
				}
			}
		}
	}
}

// TestMarketIsPlain holds the vocabulary to the standard library.
func TestMarketIsPlain(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != root+"pkg/market" {
			continue
		}
		for _, path := range p.Imports {
			if strings.Contains(path, ".") {
				t.Errorf("pkg/market imports %s; it imports the standard library alone", path)
			}
		}
	}
}

func isService(name string) bool {
	return strings.HasPrefix(name, "services/") && !slices.ContainsFunc(notServices, func(free string) bool {
		return strings.HasPrefix(name+"/", strings.TrimSuffix(free, "/")+"/")
	})
}

// within tells whether name is the package or folder in, or lies below it.
func within(name, in string) bool { return name == in || strings.HasPrefix(name, in+"/") }
