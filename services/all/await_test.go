package all

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAwait has something come late: the person who waits hears why.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		s := &Service{deps: Deps{Out: &out}}
		begin := time.Now()
		err := s.await(context.Background(), func() string {
			if time.Since(begin) > 12*time.Second {
				return ""
			}
			return "ingest: no partitions assigned yet"
		})
		if want := strings.Repeat("Still waiting: ingest: no partitions assigned yet.\n", 2); err != nil || out.String() != want {
			t.Errorf("%v, said %q", err, out.String())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.await(ctx, func() string { return "godot" }); err == nil {
			t.Error("it does not stop waiting")
		}
	})
}
