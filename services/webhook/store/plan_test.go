package store

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestPlans looks at how SQLite means to run each statement: none reads a table through that grows with the alerts or with
// time.
func TestPlans(t *testing.T) {
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), Ephemeral: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	text, err := os.ReadFile("queries.sql")
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile("query/queries.sql.go")
	if err != nil {
		t.Fatal(err)
	}
	statements := map[string]string{
		"alertsByNum": alertsByNum.sized[0](), "lockAlerts": lockAlerts.sized[0](), "moveEvals": moveEvals.sized[0](), "moveAlerts": moveAlerts.sized[0](),
		"jobsByNum": jobsByNum.sized[0](), "lockDeliveries": lockDeliveries.sized[0](), "moveDeliveries": moveDeliveries.sized[0](),
		"assignBatch": assignBatch.sized[0](), "dropAttempts": dropAttempts.sized[0](), "dropDeliveries": dropDeliveries.sized[0](), "dropEvents": dropEvents.sized[0](), "waitingAlerts": waitingAlerts.sized[0](),
	}
	for _, m := range regexp.MustCompile("(?s)`(-- name: (\\w+) .*?)`").FindAllStringSubmatch(string(made), -1) {
		statements[m[2]] = m[1]
	}
	if n := strings.Count(string(text), "-- name: "); len(statements) != n+12 {
		t.Errorf("%d statements, want %d", len(statements), n+12)
	}
	small := regexp.MustCompile(`^SCAN (setting|counter|member|lease|l|tenant|instrument|replay|r|secret|s|endpoint|v|\d+ CONSTANT ROWS?|\d+-ROW VALUES CLAUSE|CONSTANT ROW)\b`)
	for name, text := range statements {
		args := make([]any, strings.Count(text, "?"))
		for _, m := range parameter.FindAllStringSubmatch(text, -1) {
			if n, err := strconv.Atoi(m[1]); err == nil && n > len(args) {
				args = make([]any, n)
			}
		}
		rows, err := s.db.(*sqliteDB).pool.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+sqliteText(text), args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(step, "SCAN") && !small.MatchString(step) {
				t.Errorf("%s: %s", name, step)
			}
			if name == "DueAfter" && !strings.Contains(step, "(endpoint=? AND next_at>?)") {
				t.Errorf("%s: %s", name, step) // a backlog is not read from its beginning at each look
			}
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}
