package webhook

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// envelope is the body of every event. It is made once, when the event is, and goes out as these bytes at each attempt.
type envelope struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      struct {
		Object any `json:"object"`
	} `json:"data"`
}

// fired is the object of alert.fired. Values are decimal strings, ts and clock microseconds since 1970.
type fired struct {
	Alert    string          `json:"alert"`
	Name     string          `json:"name,omitempty"`
	Sym      string          `json:"sym"`
	Series   string          `json:"series"`
	Op       string          `json:"op"`
	Limit    string          `json:"limit"`
	Value    string          `json:"value"`
	Prev     *string         `json:"prev"` // null: there was none
	ArmSeq   uint32          `json:"arm_seq"`
	Ep       uint32          `json:"ep"`
	Seq      uint64          `json:"seq"`
	TS       int64           `json:"ts"`
	Clock    int64           `json:"clock"`
	AfterGap bool            `json:"after_gap"`
	Rule     json.RawMessage `json:"rule"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// ended is the object of alert.expired and alert.ended.
type ended struct {
	Alert    string          `json:"alert"`
	Name     string          `json:"name,omitempty"`
	Sym      string          `json:"sym"`
	Why      string          `json:"why"`
	Clock    int64           `json:"clock"`
	Rule     json.RawMessage `json:"rule"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// gapped is the object of alert.gap: from when to when the tenant's alerts on a partition could not be evaluated.
type gapped struct {
	Partition int    `json:"partition"`
	Sym       string `json:"sym,omitempty"` // of epoch: the instrument
	Why       string `json:"why"`           // retention, log, damaged or epoch
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Alerts    int64  `json:"alerts"`
}

// firedEvent makes the event of a fire.
func firedEvent(a *store.Alert, spec rule.Spec, scale uint8, f *rule.Fire) (store.Event, error) {
	object := fired{
		Alert: store.FormatID(store.AlertPrefix, a.Num), Name: a.Name, Sym: a.Sym, Series: spec.Series.String(), Op: spec.Op.String(),
		Limit: rule.Format(spec.Limit, scale), Value: rule.Format(f.Value, scale), ArmSeq: f.ArmSeq,
		Ep: f.Seq.Epoch, Seq: f.Seq.Seq, TS: f.Time.Micros(), Clock: f.Clock.Micros(), AfterGap: f.AfterGap,
		Rule: json.RawMessage(a.Rule), Metadata: metadata(a),
	}
	if f.HasPrev {
		prev := rule.Format(f.Prev, scale)
		object.Prev = &prev
	}
	ev := store.Event{
		ID: store.AlertEventID(a.Num, f.ArmSeq), Type: store.TypeAlertFired, Tenant: a.Tenant, Alert: a.Num, ArmSeq: f.ArmSeq, Sym: a.Sym,
	}
	var err error
	ev.Body, err = body(ev.ID, ev.Type, f.Clock, object)
	return ev, err
}

func metadata(a *store.Alert) json.RawMessage {
	if a.Metadata == "" {
		return nil
	}
	return json.RawMessage(a.Metadata)
}

// body renders an event.
func body(id, kind string, at market.Time, object any) ([]byte, error) {
	e := envelope{ID: id, Type: kind, Timestamp: at.Std().Format(time.RFC3339Nano)}
	e.Data.Object = object
	b, err := json.Marshal(&e)
	if err != nil {
		return nil, fmt.Errorf("render event %s: %w", id, err)
	}
	return b, nil
}
