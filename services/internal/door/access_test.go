package door_test

import (
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/door"
)

func TestParties(t *testing.T) {
	a := door.NewAccess(nil) // it is not asked about tokens
	two := &auth.Grant{Subject: "alice", MaxConns: 2, Ops: 1}
	first, second := a.Join(two), a.Join(two)
	if first == nil || first != second || first.Subject() != "alice" {
		t.Fatalf("%v %v", first, second)
	}
	if a.Join(two) != nil {
		t.Error("a third connection")
	}
	if a.Join(&auth.Grant{Subject: "alice", MaxConns: 3, Ops: 2}) != first {
		t.Error("a wider token is not taken")
	}
	if a.Join(&auth.Grant{Subject: "bob"}) == nil || a.Subjects() != 2 {
		t.Error("another subject is kept out")
	}
	now, taken := time.Now(), 0
	for range 20 {
		if ok, has := first.Take(now, 4); !has {
			t.Fatal("no bucket")
		} else if ok {
			taken++
		}
	}
	if taken != 8 { // the newest token's 2 per second, four times that at once
		t.Errorf("%d requests at once", taken)
	}
	first.Limit(&auth.Grant{Subject: "alice"})
	if _, has := first.Take(now, 4); has {
		t.Error("a bucket though the token says nothing of one")
	}
	var nobody *door.Party
	if _, has := nobody.Take(now, 4); has {
		t.Error("nobody has a bucket")
	}
	a.Leave(nobody)
	for range 3 {
		a.Leave(first)
	}
	if a.Subjects() != 1 || a.Join(two) == nil {
		t.Error("those who left are still counted")
	}
}
