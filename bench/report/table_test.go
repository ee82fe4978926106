package report

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs (go test ./bench/report -update writes it anew):\n%s", file, got)
	}
}

func TestTable(t *testing.T) {
	single := sample(2, "tickwire", 1)
	single.Rows, single.Notes = single.Rows[:1], nil
	single.Rows[0].Name = ""
	for i := range single.Rows[0].Measures {
		m := &single.Rows[0].Measures[i]
		m.Runs = m.Runs[:1]
	}
	for name, r := range map[string]*Report{
		"table.golden": sample(1, "tickwire", 1), "table-faults.golden": withFaults(sample(1, "tickwire", 1)), "table-one.golden": single,
	} {
		text := r.Table()
		golden(t, name, text)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(line); n > 101 {
				t.Errorf("%s: a line of %d: %s", name, n, line)
			}
		}
	}
}
