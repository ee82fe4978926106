package streamtest

import (
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/stream"
)

func testCheck(t *testing.T, e *env, expiration bool) {
	ctx := testContext(t)
	c := e.open(t, stream.Topics{Raw: "check.raw", Events: "check.events", Snapshots: "check.snapshots", Quarantine: "check.quarantine"})
	plan := stream.Plan(c.Topics(), stream.PlanOptions{Partitions: 3, Replicas: e.replicas})
	r, err := c.Check(ctx, plan, false)
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || strings.Count(r.String(), "problem: missing") != 4 {
		t.Fatalf("no topics exist:\n%s", &r)
	}
	for _, create := range []bool{true, true, false} { // creating again changes nothing
		if r, err = c.Check(ctx, plan, create); err != nil {
			t.Fatal(err)
		}
		if r.OK() == expiration || strings.Contains(r.String(), ": wrong") {
			t.Fatalf("after creating the topics:\n%s", &r)
		}
	}
	if short := strings.Contains(r.String(), "problem: transactional.id.expiration.ms is 2000"); short != expiration {
		t.Fatalf("expiration of ids:\n%s", &r)
	}
	plan = stream.Plan(c.Topics(), stream.PlanOptions{Partitions: 4, Replicas: e.replicas + 1})
	plan[1].Config["retention.ms"] = "1"
	if r, err = c.Check(ctx, plan, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 partitions, not 4", "replica(s), not", "retention.ms is 21600000, not 1"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &r)
		}
	}
}
