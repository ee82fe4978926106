package clients

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/services/internal/testkit"
)

// cacheDir is where clients are installed.
func cacheDir(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if cache = cmp.Or(os.Getenv("TICKWIRE_CACHE"), cache); cache == "" {
		t.Fatal(err)
	}
	cache, err = filepath.Abs(filepath.Join(cache, "sse-clients"))
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// installed copies a folder of clients into the cache and runs install there, unless it has been run for the same lock file.
func installed(t *testing.T, folder, lock string, install func(dir string) error) (dir string) {
	t.Helper()
	dir = filepath.Join(cacheDir(t), folder)
	want, err := os.ReadFile(filepath.Join(folder, lock))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mark := filepath.Join(dir, ".installed")
	if have, err := os.ReadFile(mark); err == nil && string(have) == string(want) {
		return dir
	}
	if err := install(dir); err != nil {
		testkit.Missing(t, "%v", err)
	}
	if err := os.WriteFile(mark, want, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir string, env []string, name string, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// node installs the JavaScript clients.
func node(t *testing.T) (node, dir string) {
	t.Helper()
	node, npm := testkit.Tool(t, "Node.js 20 or later", "node"), testkit.Tool(t, "it comes with Node.js", "npm")
	return node, installed(t, "js", "package-lock.json", func(dir string) error {
		return run(t, dir, nil, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	})
}

// chromium says where the browser is.
func chromium(t *testing.T) string {
	t.Helper()
	return testkit.Tool(t, "apt-get install chromium, or set CHROMIUM", os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
}

// python installs the Python clients into an environment of their own.
func python(t *testing.T) (python, dir string) {
	t.Helper()
	system := testkit.Tool(t, "Python 3.11 or later", "python3")
	dir = installed(t, "python", "requirements.txt", func(dir string) error {
		if err := run(t, dir, nil, system, "-m", "venv", "--clear", "venv"); err != nil {
			return err
		}
		return run(t, dir, nil, filepath.Join(dir, "venv", "bin", "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", "requirements.txt")
	})
	return filepath.Join(dir, "venv", "bin", "python"), dir
}

// goSSE builds the Go client.
func goSSE(t *testing.T) string {
	t.Helper()
	dir := installed(t, "go-sse", "go.sum", func(string) error { return nil })
	if err := run(t, dir, []string{"GOWORK=off", "CGO_ENABLED=0"}, "go", "build", "-o", "client", "."); err != nil {
		testkit.Missing(t, "%v", err)
	}
	return filepath.Join(dir, "client")
}
