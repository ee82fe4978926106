// Package scenario measures the edges under load: the WebSocket's, and the public one with its event streams, alone or in a
// deployment. A scenario starts what serves, what publishes and the clients in processes of their own, lets them run, and
// says what it saw. Slow is not wrong: what is too much for the machine shows in the figures alone.
//
// A scenario runs several times, with fresh servers. Where a floor is measured it and the edge take turns within each run: a
// shared machine's speed changes from second to second, and the ratio of neighbours stays.
package scenario

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tickwire/tickwire/bench/report"
)

// Report is what a scenario found.
type Report interface {
	// Table is for people: a compact table with a heading.
	Table() string
	// Err says what was wrong, if anything was.
	Err() error
}

type Where struct{ report.Machine }

func Here() Where              { return Where{report.Here()} }
func (w Where) String() string { return fmt.Sprint(w.Date.Format(time.DateTime)) }

func format(json bool) string {
	if json {
		return "JSON"
	}
	return "SBE"
}

// table lays out rows of cells.
func table(heading string, rows [][]string) string {
	var b strings.Builder
	b.WriteString(heading + "\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t")+"\t") // into memory
	}
	_ = w.Flush() // into memory
	return b.String()
}
