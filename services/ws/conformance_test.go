package ws

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/tickwire/tickwire/pkg/fanout"
	"github.com/tickwire/tickwire/services/internal/door"
)

// echo answers each message by the same, through everything that messages of the edge go through.
type echo struct{ handler }

func (echo) OnMessage(ws *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	c := ws.NetConn().(*socket).session
	c.conn.Send(fanout.NewFrame(fanout.Opcode(m.Opcode), m.Bytes()))
}

// startEcho starts an edge that echoes and says nothing by itself, with limits that let the largest cases pass.
func startEcho(t *testing.T) *edge {
	const maxMessage = 32 << 20
	e := newEdge(t, func(c *Config) { c.Idle, c.maxControl = 0, 2*maxMessage })
	e.s.greet = func(*session, uint64) {}
	e.s.bounds = bounds{
		message: maxMessage, fragments: 1 << 20,
		frames: door.Bucket{Rate: 1e6, Burst: 1e6}, pings: door.Bucket{Rate: 1e6, Burst: 1e6},
	}
	for t := range e.s.upgraders {
		e.s.upgraders[t] = newUpgrader(t, maxMessage, echo{})
	}
	return e.start()
}

// TestAutobahn runs the fuzzing client of the Autobahn test suite. TICKWIRE_AUTOBAHN lists the cases, separated by spaces;
// `make autobahn` sets it. It needs Python 2.7, and PyPI the first time.
func TestAutobahn(t *testing.T) {
	cases := strings.Fields(os.Getenv("TICKWIRE_AUTOBAHN"))
	if len(cases) == 0 {
		t.Skip("the Autobahn suite takes a while: make autobahn")
	}
	python, suite := autobahn(t)
	e := startEcho(t)
	dir := t.TempDir()
	spec, err := json.Marshal(map[string]any{
		"outdir": dir, "servers": []map[string]string{{"agent": "tickwire", "url": "ws://" + e.s.Addr() + "/v1/ws"}},
		"cases": cases, "exclude-cases": []string{}, "exclude-agent-cases": map[string]any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	specFile := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(specFile, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	client := exec.CommandContext(ctx, python, filepath.Join(suite, "bin", "wstest"), "-m", "fuzzingclient", "-s", specFile) //nolint:gosec // a test's own command
	client.Dir, client.Env = dir, append(os.Environ(), "PYTHONPATH="+suite)
	begin := time.Now()
	if out, err := client.CombinedOutput(); err != nil {
		t.Fatalf("wstest: %v\n%s", err, out)
	}
	report(t, filepath.Join(dir, "index.json"), time.Since(begin))
}

// report fails the test for each case that failed.
func report(t *testing.T, file string, took time.Duration) {
	t.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // in the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	var index map[string]map[string]struct {
		Result string `json:"behavior"`      //nolint:misspell // the suite's own word
		Close  string `json:"behaviorClose"` //nolint:misspell // as above
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	counts, lax := map[string]int{}, []string{}
	for id, result := range index["tickwire"] {
		counts[result.Result]++
		if result.Result == "NON-STRICT" {
			lax = append(lax, id)
		}
		switch {
		case result.Result == "FAILED":
			t.Errorf("case %s: %s", id, result.Result)
		case !slices.Contains([]string{"OK", "INFORMATIONAL", "UNIMPLEMENTED"}, result.Close):
			t.Errorf("case %s: close %s", id, result.Close)
		}
	}
	if len(index["tickwire"]) == 0 {
		t.Error("no case was run")
	}
	slices.Sort(lax)
	t.Logf("%d cases in %v: %v; not strict: %v", len(index["tickwire"]), took.Round(time.Second), counts, lax)
}

// autobahn finds Python 2.7, and installs the suite into the cache folder if it is not there.
func autobahn(t *testing.T) (python, suite string) {
	t.Helper()
	python = python27(t)
	cache, err := os.UserCacheDir()
	if cache = cmp.Or(os.Getenv("TICKWIRE_CACHE"), cache); cache == "" {
		t.Fatal(err)
	}
	suite = filepath.Join(cache, "autobahn-25.10.1")
	if _, err := os.Stat(filepath.Join(suite, "bin", "wstest")); err == nil {
		return python, suite
	}
	if err := os.MkdirAll(cache, 0o750); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(cache, "autobahn-*")
	if err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), python, "-m", "pip", "install", "-q", "--target", fresh, "autobahntestsuite==25.10.1") //nolint:gosec // as above
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("pip install autobahntestsuite: %v\n%s", err, out)
	}
	// pip's --target leaves out what makes this a package for Python 2.
	if err := os.WriteFile(filepath.Join(fresh, "zope", "__init__.py"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, suite); err != nil {
		t.Fatal(err)
	}
	return python, suite
}

func python27(t *testing.T) string {
	t.Helper()
	candidates := []string{"python2.7", "python2"}
	for _, root := range []string{os.Getenv("PYENV_ROOT"), filepath.Join(os.Getenv("HOME"), ".pyenv")} {
		found, _ := filepath.Glob(filepath.Join(root, "versions", "2.7*", "bin", "python2.7"))
		candidates = append(candidates, found...)
	}
	for _, c := range candidates {
		// A shim of pyenv is there without the Python that it stands for.
		out, err := exec.CommandContext(t.Context(), c, "-V").CombinedOutput() //nolint:gosec // as above
		if err == nil && strings.HasPrefix(string(out), "Python 2.7") {
			return c
		}
	}
	t.Fatal(fmt.Errorf("no Python 2.7 among %v: the Autobahn test suite runs on nothing newer (pyenv install 2.7.18)", candidates))
	return ""
}
