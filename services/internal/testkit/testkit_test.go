package testkit

import (
	"context"
	"testing"
	"time"
)

func TestKafka(t *testing.T) {
	k := Kafka(t, 1)
	k.Kill(0)
	k.Restart(0)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := k.WaitReady(ctx, 1); err != nil {
		t.Fatal(err)
	}
}

func TestData(t *testing.T) {
	Data(t, "binance-spot")
	t.Run("missing", func(t *testing.T) {
		t.Setenv("TICKWIRE_DATA", t.TempDir())
		Data(t, "binance-spot")
		t.Fatal("a test without its data went on")
	})
}
