package alerts

import (
	"encoding/json"
	"fmt"
)

// event is what a webhook tells.
type event struct {
	Type string `json:"type"`
	Data struct {
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

// describe is an event in one line.
func describe(id string, body []byte) string {
	var e event
	if err := json.Unmarshal(body, &e); err != nil || e.Type == "" {
		return fmt.Sprintf("%s  %s", visible(id), clipped(visibleJSON(body), 300))
	}
	what := clipped(visibleJSON(e.Data.Object), 300)
	if e.Type == "alert.fired" {
		if line, ok := describeFire(e.Data.Object); ok {
			what = line
		}
	}
	return fmt.Sprintf("%s  %s  %s", visible(e.Type), what, visible(id))
}

// describeFire is a fire as people read it: BTC-USDT last crosses_above 65000: 65000.5, before 64999.9  "a name".
func describeFire(text []byte) (string, bool) {
	var f struct {
		Name     string  `json:"name"`
		Sym      string  `json:"sym"`
		Value    string  `json:"value"`
		Prev     *string `json:"prev"`
		AfterGap bool    `json:"after_gap"`
		Rule     rule    `json:"rule"`
	}
	if json.Unmarshal(text, &f) != nil || f.Rule.Series == "" {
		return "", false
	}
	line := fmt.Sprintf("%s %s: %s", visible(f.Sym), f.Rule, visible(f.Value))
	if f.Prev != nil {
		line += ", before " + visible(*f.Prev)
	}
	if f.AfterGap {
		line += " (after a gap)"
	}
	if f.Name != "" {
		line += "  " + clipped(visible(f.Name), 80)
	}
	return line, true
}
