package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// event is an event as the API tells it.
type event struct {
	ID       string          `json:"id"`
	Seq      int64           `json:"seq"`
	Type     string          `json:"type"`
	Alert    string          `json:"alert,omitempty"`
	Sym      string          `json:"sym,omitempty"`
	Endpoint string          `json:"endpoint,omitempty"`
	Created  *string         `json:"created_at"`
	Body     json.RawMessage `json:"body"`
}

func tellEvent(e *store.Event) event {
	return event{
		ID: e.ID, Seq: e.Seq, Type: e.Type, Alert: idOf(store.AlertPrefix, e.Alert), Sym: e.Sym,
		Endpoint: idOf(store.EndpointPrefix, e.About), Created: at(e.Created), Body: e.Body,
	}
}

// idOf is an id, or nothing for 0.
func idOf(prefix string, num int64) string {
	if num == 0 {
		return ""
	}
	return store.FormatID(prefix, num)
}

// eventPage is a part of a tenant's events, oldest first.
type eventPage struct {
	Items  []event `json:"items"`
	Next   int64   `json:"next"`
	More   bool    `json:"more"`
	Missed int64   `json:"missed,omitempty"`
}

// maxPageBytes is when a page of events has enough of them, although it might have more.
const maxPageBytes = 4 << 20

func (a *api) listEvents(c *call) (*answer, error) {
	limit, after := int(c.number(0)), c.number(1)
	all, err := a.deps.Store.Events(c.ctx, store.EventFilter{
		Tenant: c.tenant.Num, After: after, Type: c.args[2], Alert: c.numOf(store.AlertPrefix, 3), Limit: limit + 1,
	})
	if err != nil {
		return nil, err
	}
	first, err := a.deps.Store.FirstEvent(c.ctx, c.tenant.Num)
	if err != nil {
		return nil, err
	}
	p := eventPage{Items: make([]event, 0, min(limit, len(all))), Next: max(after, first-1), Missed: max(0, first-1-after)}
	for i, size := 0, 0; i < min(limit, len(all)) && size < maxPageBytes; i++ {
		p.Items = append(p.Items, tellEvent(&all[i]))
		p.Next = all[i].Seq
		size += len(all[i].Body)
	}
	p.More = len(all) > len(p.Items)
	return reply(fasthttp.StatusOK, p)
}

func (a *api) getEvent(c *call) (*answer, error) {
	if !isEventID(c.id) {
		return nil, store.ErrNotFound
	}
	e, err := a.deps.Store.Event(c.ctx, c.tenant.Num, c.id)
	if err != nil {
		return nil, err
	}
	return reply(fasthttp.StatusOK, tellEvent(e))
}

// numOf is the number of an argument that is an id; 0 when there is none.
func (c *call) numOf(prefix string, i int) int64 {
	n, _ := store.ParseID(prefix, c.args[i]) // rest.ParseParams has looked at it
	return n
}

// delivery is a delivery as the API tells it.
type delivery struct {
	ID         string              `json:"id"`
	Event      string              `json:"event"`
	Endpoint   string              `json:"endpoint"`
	State      store.DeliveryState `json:"state"`
	Attempts   int                 `json:"attempts"`
	NextAt     *string             `json:"next_at"`
	Created    *string             `json:"created_at"`
	Finished   *string             `json:"finished_at"`
	LastStatus int                 `json:"last_status"`
	LastError  string              `json:"last_error"`
}

func tellDelivery(d *store.Delivery) delivery {
	out := delivery{
		ID: store.FormatID(store.DeliveryPrefix, d.Num), Event: d.EventID, Endpoint: store.FormatID(store.EndpointPrefix, d.Endpoint),
		State: d.State, Attempts: d.Attempts, Created: at(d.Created), Finished: at(d.Finished), LastStatus: d.LastCode, LastError: d.LastErr,
	}
	if d.State == store.DeliveryQueued {
		out.NextAt = at(d.NextAt)
	}
	return out
}

func (a *api) listDeliveries(c *call) (*answer, error) {
	f := store.DeliveryFilter{
		Tenant: c.tenant.Num, State: store.DeliveryState(c.args[2]), Endpoint: c.numOf(store.EndpointPrefix, 3), Page: c.page(),
	}
	if c.args[4] != "" {
		e, err := a.deps.Store.Event(c.ctx, c.tenant.Num, c.args[4])
		if err != nil {
			return nil, err
		}
		f.Event = e.Num
	}
	all, err := a.deps.Store.Deliveries(c.ctx, f)
	if err != nil {
		return nil, err
	}
	return paged(c, all, tellDelivery, func(d delivery) string { return d.ID })
}

func (a *api) getDelivery(c *call) (*answer, error) {
	num, err := c.num(store.DeliveryPrefix)
	if err != nil {
		return nil, err
	}
	return a.deliveryReply(c, fasthttp.StatusOK, num)
}

func (a *api) deliveryReply(c *call, status int, num int64) (*answer, error) {
	job, err := a.deps.Store.Delivery(c.ctx, c.tenant.Num, num)
	if err != nil {
		return nil, err
	}
	job.Delivery.EventID = job.Event.ID
	return reply(status, tellDelivery(&job.Delivery))
}

// attempt is a request that was made.
type attempt struct {
	N        int     `json:"n"`
	At       *string `json:"at"`
	Took     float64 `json:"took_ms"`
	Status   int     `json:"status"`
	Error    string  `json:"error"`
	Response string  `json:"response"`
	Manual   bool    `json:"manual"`
}

func (a *api) listAttempts(c *call) (*answer, error) {
	num, err := c.num(store.DeliveryPrefix)
	if err != nil {
		return nil, err
	}
	if _, err := a.deps.Store.Delivery(c.ctx, c.tenant.Num, num); err != nil {
		return nil, err
	}
	all, err := a.deps.Store.Attempts(c.ctx, num)
	if err != nil {
		return nil, err
	}
	out := struct {
		Items []attempt `json:"items"`
	}{make([]attempt, len(all))}
	for i := range all {
		t := &all[i]
		out.Items[i] = attempt{N: t.N, At: at(t.At), Took: millis(t.Took), Status: t.Code, Error: t.Err, Response: t.Response, Manual: t.Manual}
	}
	return reply(fasthttp.StatusOK, out)
}

// millis is a duration in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (a *api) resendDelivery(c *call) (*answer, error) {
	return a.turnDelivery(c, fasthttp.StatusAccepted, a.deps.Store.Resend)
}

func (a *api) cancelDelivery(c *call) (*answer, error) {
	return a.turnDelivery(c, fasthttp.StatusOK, a.deps.Store.Cancel)
}

func (a *api) turnDelivery(c *call, status int, turn func(ctx context.Context, tenant, num int64) (*store.Delivery, error)) (*answer, error) {
	return a.act(c, store.DeliveryPrefix, func(num int64) (*answer, error) {
		if _, err := turn(c.ctx, c.tenant.Num, num); err != nil {
			return nil, err
		}
		return a.deliveryReply(c, status, num)
	})
}

// replay is a replay as the API tells it.
type replay struct {
	ID       string                `json:"id"`
	Endpoint string                `json:"endpoint,omitempty"`
	States   []store.DeliveryState `json:"states"`
	Type     string                `json:"type,omitempty"`
	From     *string               `json:"from"`
	To       *string               `json:"to"`
	State    string                `json:"state"`
	Matched  int64                 `json:"matched"`
	Created  *string               `json:"created_at"`
	Finished *string               `json:"finished_at"`
}

func tellReplay(r *store.Replay) replay {
	return replay{
		ID: store.FormatID(store.ReplayPrefix, r.Num), Endpoint: idOf(store.EndpointPrefix, r.Endpoint), States: r.States, Type: r.Type,
		From: at(r.From), To: at(r.To), State: r.State, Matched: r.Matched, Created: at(r.Created), Finished: at(r.Finished),
	}
}

func (a *api) listReplays(c *call) (*answer, error) {
	all, err := a.deps.Store.Replays(c.ctx, c.tenant.Num, c.page())
	if err != nil {
		return nil, err
	}
	return paged(c, all, tellReplay, func(r replay) string { return r.ID })
}

func (a *api) getReplay(c *call) (*answer, error) {
	return fetched(c, store.ReplayPrefix, a.deps.Store.Replay, tellReplay)
}

// replayable are the states whose deliveries a replay may send again.
var replayable = []store.DeliveryState{store.DeliveryHeld, store.DeliveryDelivered, store.DeliveryExhausted, store.DeliveryCancelled}

func (a *api) createReplay(c *call) (*answer, error) {
	o := c.body
	o.need("from")
	r := &store.Replay{Tenant: c.tenant.Num, From: o.when("from"), To: c.now, States: []store.DeliveryState{store.DeliveryExhausted}}
	if o.has("to") {
		r.To = o.when("to")
	}
	if o.has("states") {
		r.States = some(o, "states", replayable)
	}
	if o.has("type") {
		r.Type = one(o, "type", eventTypes...)
	}
	endpoint := o.text("endpoint", maxSym)
	if wrong := o.end(); wrong != nil {
		return nil, wrong
	}
	switch {
	case !r.From.Before(r.To):
		o.refuse("to", "is not behind from")
	case endpoint != "":
		num, err := store.ParseID(store.EndpointPrefix, endpoint)
		if err == nil {
			_, err = a.endpointOf(c, num)
		}
		if err != nil {
			o.refuse("endpoint", "there is no such endpoint")
		}
		r.Endpoint = num
	}
	if *o.wrong != nil {
		return nil, *o.wrong
	}
	return c.once(func(o *store.Once) error { return a.deps.Store.CreateReplay(c.ctx, r, o) }, func() (*answer, error) {
		return made(tellReplay(r), "/v1/replays/"+store.FormatID(store.ReplayPrefix, r.Num), fasthttp.StatusAccepted)
	})
}

// some reads a list of different values out of those that there are; it must not be empty.
func some[T ~string](o *object, name string, values []T) (list []T) {
	for i, s := range o.texts(name, len(values), 64) {
		if !contains(values, s) {
			o.bad(o.item(name, i), "not one of %s", joined(values))
		}
		list = append(list, T(s))
	}
	if len(list) == 0 {
		o.refuse(name, "must not be empty")
	}
	return list
}

func contains[T ~string](values []T, s string) bool {
	for _, v := range values {
		if string(v) == s {
			return true
		}
	}
	return false
}

func (a *api) cancelReplay(c *call) (*answer, error) {
	return a.act(c, store.ReplayPrefix, func(num int64) (*answer, error) {
		r, err := a.deps.Store.Replay(c.ctx, c.tenant.Num, num)
		if err != nil {
			return nil, err
		}
		if err := a.deps.Store.CancelReplay(c.ctx, c.tenant.Num, num); errors.Is(err, store.ErrNotFound) {
			return nil, conflict("it is " + r.State + " already")
		} else if err != nil {
			return nil, err
		}
		return a.getReplay(c)
	})
}
