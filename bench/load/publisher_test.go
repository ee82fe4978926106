package load

import (
	"context"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/pkg/stream"
)

// TestHangUp ends a writer whose brokers are gone.
func TestHangUp(t *testing.T) {
	t.Parallel() // it waits
	var w *stream.RawWriter
	t.Run("servers", func(t *testing.T) {
		d := deployment.Deployment{Config: running(t, nil)}
		cluster, err := d.Cluster()
		if err != nil {
			t.Fatal(err)
		}
		if w, err = cluster.RawWriter(t.Context(), cluster.Topics().Raw, stream.RawWriterConfig{}); err != nil {
			t.Fatal(err)
		}
	}) // and now they have ended
	if err := w.Write(&stream.Record{Key: []byte("BENCH-A"), Value: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := acknowledged(ctx, w); err == nil {
		t.Error("brokers that are gone acknowledge")
	}
	began := time.Now()
	hangUp(t.Context(), w)
	if took := time.Since(began); took > goodbye+10*time.Second {
		t.Errorf("it took %v", took)
	}
}
