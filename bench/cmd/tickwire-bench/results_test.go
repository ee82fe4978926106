package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestResultsCommand(t *testing.T) {
	a, b := written(t, "ws-fanout", "fanout.json", 10, 10, 10), written(t, "storm", "storm.json", 5, 5)
	f := func(code int, want []string, args ...string) {
		t.Helper()
		root := rootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append([]string{"results"}, args...))
		err := root.ExecuteContext(t.Context())
		if exitCode(err) != code {
			t.Errorf("%v: exit code %d, %v", args, exitCode(err), err)
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("%v: no %q in\n%s", args, text, &out)
			}
		}
	}
	f(0, []string{"## fanout", "## storm"}, a, filepath.Dir(b))
	f(2, nil)
	f(2, nil, "nowhere")
	f(2, nil, t.TempDir())
}
