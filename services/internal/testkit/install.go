package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Installed copies a folder of other people's programs into the cache, under a name, and runs install there, unless it has
// been run for the same lock file.
func Installed(t testing.TB, name, folder, lock string, install func(dir string) error) (dir string) {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.Abs(filepath.Join(cache, name, folder)); err != nil {
		t.Fatal(err)
	}
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
		Missing(t, "%v", err)
	}
	if err := os.WriteFile(mark, want, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t testing.TB, dir string, env []string, name string, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Node installs the folder js, which has a package-lock.json.
func Node(t testing.TB, name string) (node, dir string) {
	t.Helper()
	node, npm := Tool(t, "Node.js 20 or later", "node"), Tool(t, "it comes with Node.js", "npm")
	return node, Installed(t, name, "js", "package-lock.json", func(dir string) error {
		return run(t, dir, nil, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	})
}

// Python installs the folder python, which has a requirements.txt, into an environment of its own.
func Python(t testing.TB, name string) (python, dir string) {
	t.Helper()
	system := Tool(t, "Python 3.11 or later", "python3")
	dir = Installed(t, name, "python", "requirements.txt", func(dir string) error {
		if err := run(t, dir, nil, system, "-m", "venv", "--clear", "venv"); err != nil {
			return err
		}
		return run(t, dir, nil, filepath.Join(dir, "venv", "bin", "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", "requirements.txt")
	})
	return filepath.Join(dir, "venv", "bin", "python"), dir
}

// GoProgram builds the program of a folder that is a module of its own.
func GoProgram(t testing.TB, name, folder string) (path string) {
	t.Helper()
	dir := Installed(t, name, folder, "go.sum", func(string) error { return nil })
	if err := run(t, dir, []string{"GOWORK=off", "CGO_ENABLED=0"}, "go", "build", "-o", "program", "."); err != nil {
		Missing(t, "%v", err)
	}
	return filepath.Join(dir, "program")
}
