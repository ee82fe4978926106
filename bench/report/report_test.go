package report

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestWriteAndRead(t *testing.T) {
	r, file := withFaults(sample(1, "tickwire", 1)), filepath.Join(t.TempDir(), "a.json")
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	again, err := Read(file)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("%v: it is not what was written", err)
	}
	for text, want := range map[string]string{
		`{"version": 2, "scenario": "storm"}`: "newer", `{"rows": []}`: "not a report", `{"version": 1}`: "not a report", `[]`: "array", ``: "EOF",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRecord(t *testing.T) {
	var r Row
	r.Record(map[string]float64{"p99": 3, "gaps": 0, "p50": math.NaN()})
	r.Record(map[string]float64{"p99": 1, "gaps": 1, "p50": 1, "max": math.Inf(1)})
	r.Record(map[string]float64{"p99": 2, "gaps": 0, "p50": 2})
	if len(r.Measures) != 3 || r.runs() != 3 || r.Measure("p99").Value() != 2 || r.Measure("p50").Value() != 1.5 || r.Measure("max") != nil || new(Measure).Value() != 0 {
		t.Errorf("%+v", r)
	}
	defer func() {
		if recover() == nil {
			t.Error("a measure that nobody knows was recorded")
		}
	}()
	r.Record(map[string]float64{"p98": 1})
}

// Whatever a file says, its report can be shown.
func FuzzShow(f *testing.F) {
	for _, r := range []*Report{withFaults(sample(1, "tickwire", 1)), hostile()} {
		row := &r.Rows[1] // what is short is changed more thoroughly
		row.Series, row.Latency, row.Measures = row.Series[:1], row.Latency[:3], append(row.Measures[:3], *row.Measure("gaps"))
		r.Rows = r.Rows[1:]
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"version":1,"scenario":"x","rows":[{"name":"a","measures":[{"name":"p99","runs":[]},{"name":"gaps","runs":null}],"series":[{"name":"p50","at":[1],"values":[]}]},{"name":"a"}]}`))
	f.Add([]byte(`{"version":1,"scenario":"x"}`))
	conditions, err := ParseConditions("p99>1ms,faults>0")
	if err != nil {
		f.Fatal(err)
	}
	ratios, err := ParseRatioConditions("worse,fault,p99>1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		_, _ = r.Table(), conditions.Check(r)
		if err := r.HTML(io.Discard); err != nil {
			t.Error(err)
		}
		if err := Results(io.Discard, []string{"a.json"}, []*Report{r}); err != nil {
			t.Error(err)
		}
		if c, err := Compare([]string{"a.json", "b.json"}, []*Report{r, r}); err == nil {
			_, _ = c.Table(), ratios.Check(c)
		}
	})
}
