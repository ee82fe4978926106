package swarm

import (
	"fmt"
	"os"
	"testing"

	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/target"
)

// TestMain lets the test program be the parts of a measurement.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != proc.Command {
		os.Exit(m.Run())
	}
	serve := Serve
	if os.Args[2] == target.Name {
		serve = target.Serve
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// part starts a part of a measurement, which ends with the test.
func part(t *testing.T, name string) *proc.Proc {
	t.Helper()
	p, err := proc.Start(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill) // when it has not been stopped
	return p
}
