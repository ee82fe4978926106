package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// alert is an alert as the API tells it.
type alert struct {
	ID        string           `json:"id"`
	Sym       string           `json:"sym"`
	Name      string           `json:"name"`
	Rule      json.RawMessage  `json:"rule"`
	Endpoints []string         `json:"endpoints"`
	Labels    []string         `json:"labels"`
	Metadata  json.RawMessage  `json:"metadata,omitempty"`
	State     store.AlertState `json:"state"`
	Fires     uint32           `json:"fires"`
	ValidFrom *validFrom       `json:"valid_from"`
	LastFired *string          `json:"last_fired_at"`
	Created   *string          `json:"created_at"`
	Updated   *string          `json:"updated_at"`
}

// validFrom is the place in md.events from which on events count for an alert.
type validFrom struct {
	Partition int     `json:"partition"`
	Offset    int64   `json:"offset"`
	At        *string `json:"at"`
	Value     *string `json:"value"`
}

func tellAlert(a *store.Alert) *alert {
	out := &alert{
		ID: store.FormatID(store.AlertPrefix, a.Num), Sym: a.Sym, Name: a.Name, Rule: json.RawMessage(a.Rule),
		Endpoints: idsOf(store.EndpointPrefix, a.Endpoints), Labels: append([]string{}, a.Labels...), Metadata: json.RawMessage(a.Metadata),
		State: a.State, Fires: a.Eval.ArmSeq, LastFired: at(a.LastFire), Created: at(a.Created), Updated: at(a.Updated),
	}
	if a.State != store.AlertPending && (a.Eval.ValidFrom != 0 || a.Eval.Clock != 0) {
		out.ValidFrom = &validFrom{Partition: a.Partition, Offset: a.Eval.ValidFrom}
		if a.Eval.Clock != 0 {
			out.ValidFrom.At = at(a.Eval.Clock.Std())
		}
		if a.Eval.Value != "" {
			out.ValidFrom.Value = &a.Eval.Value
		}
	}
	return out
}

func idsOf(prefix string, nums []int64) []string {
	ids := make([]string, len(nums))
	for i, n := range nums {
		ids[i] = store.FormatID(prefix, n)
	}
	return ids
}

// listed is a page of a list, newest first.
type listed[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// paged answers with a page. It has been asked for one item more than the page may have, to see whether there is another page.
func paged[S, T any](c *call, all []S, tell func(*S) T, id func(T) string) (*answer, error) {
	limit := int(c.number(0))
	out := listed[T]{Items: make([]T, 0, len(all))}
	for i := range all[:min(limit, len(all))] {
		out.Items = append(out.Items, tell(&all[i]))
	}
	if len(all) > limit {
		last := id(out.Items[limit-1])
		out.Next = &last
	}
	return reply(fasthttp.StatusOK, out)
}

func (a *api) listAlerts(c *call) (*answer, error) {
	all, err := a.deps.Store.Alerts(c.ctx, store.AlertFilter{
		Tenant: c.tenant.Num, State: store.AlertState(c.args[2]), Sym: canonicalSym(c.args[3]), Label: c.args[4], Page: c.page(),
	})
	if err != nil {
		return nil, err
	}
	return paged(c, all, tellAlert, func(a *alert) string { return a.ID })
}

func (a *api) getAlert(c *call) (*answer, error) {
	num, err := c.num(store.AlertPrefix)
	if err != nil {
		return nil, err
	}
	al, err := a.alert(c, num)
	if err != nil {
		return nil, err
	}
	return alertReply(fasthttp.StatusOK, al)
}

// alert is one of the tenant's that has not been deleted.
func (a *api) alert(c *call, num int64) (*store.Alert, error) {
	al, err := a.deps.Store.Alert(c.ctx, c.tenant.Num, num)
	if err == nil && al.State == store.AlertDeleted {
		err = store.ErrNotFound
	}
	return al, err
}

func alertReply(status int, al *store.Alert) (*answer, error) {
	out, err := reply(status, tellAlert(al))
	if err != nil {
		return nil, err
	}
	out.ETag = etag(al.Updated.UnixMicro()) // its Version is for its owner, and does not grow with its name
	return out, nil
}

// createAlerts makes one alert, or many.
func (a *api) createAlerts(c *call) (*answer, error) {
	r := alertReader{a: a, c: c}
	if c.body.has("alerts") {
		return a.createMany(c, &r)
	}
	al, err := r.read(c.body)
	if err != nil {
		return nil, err
	}
	out, err := c.once(func(o *store.Once) error {
		return a.deps.Store.CreateAlerts(c.ctx, c.tenant.Num, []*store.Alert{al}, o)
	}, func() (*answer, error) { return alertMade(fasthttp.StatusAccepted, al) })
	if err != nil || out.kept {
		return out, err
	}
	a.awaitApplied(c.ctx, al.Num)
	if al, err = a.deps.Store.Alert(c.ctx, c.tenant.Num, al.Num); err != nil {
		return nil, err
	}
	if out, err = alertMade(settledStatus(al, fasthttp.StatusCreated), al); err != nil {
		return nil, err
	}
	return out, a.keep(c, out)
}

func alertMade(status int, al *store.Alert) (*answer, error) {
	out, err := alertReply(status, al)
	if err == nil {
		out.Location = "/v1/alerts/" + store.FormatID(store.AlertPrefix, al.Num)
	}
	return out, err
}

// settled waits a moment for the owner to have taken over what has been changed, and answers with how the alert stands then: by
// 202 when the owner has not.
func (a *api) settled(c *call, al *store.Alert) (*answer, error) {
	if al.Applied < al.Version {
		a.awaitApplied(c.ctx, al.Num)
		var err error
		if al, err = a.deps.Store.Alert(c.ctx, c.tenant.Num, al.Num); err != nil {
			return nil, err
		}
	}
	return alertReply(settledStatus(al, fasthttp.StatusOK), al)
}

func settledStatus(al *store.Alert, status int) int {
	if al.Applied < al.Version {
		return fasthttp.StatusAccepted
	}
	return status
}

func (a *api) awaitApplied(ctx context.Context, nums ...int64) {
	ctx, cancel := context.WithTimeout(ctx, a.settle)
	defer cancel()
	_ = a.deps.Store.AwaitApplied(ctx, nums) // how the alerts stand is looked at afterwards
}

// row is what became of one alert of many.
type row struct {
	Status int           `json:"status"`
	Alert  *alert        `json:"alert,omitempty"`
	Error  *rest.Problem `json:"error,omitempty"`
}

// createMany makes those alerts that can be made.
func (a *api) createMany(c *call, r *alertReader) (*answer, error) {
	items := c.body.list("alerts", maxBulk)
	if err := c.body.end(); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, &rest.Problem{Status: fasthttp.StatusUnprocessableEntity, Code: "invalid", Param: "alerts", Detail: "there is none"}
	}
	rows := make([]row, len(items))
	var (
		good  []*store.Alert
		index []int // of each good one among the items
	)
	fail := func(i int, err error) {
		p := a.problemOf(&route{method: post, path: "/v1/alerts"}, err)
		p.Title = fasthttp.StatusMessage(p.Status)
		rows[i] = row{Status: p.Status, Error: &p}
	}
	for i, text := range items {
		al, err := r.read(c.body.apart(c.body.item("alerts", i), text))
		if err != nil {
			fail(i, err)
			continue
		}
		good, index = append(good, al), append(index, i)
	}
	fit, err := a.fitting(c, len(good))
	if err != nil {
		return nil, err
	}
	for _, i := range index[fit.n:] {
		fail(i, &fit.problem)
	}
	good, index = good[:fit.n], index[:fit.n]
	tell := func(now func(*store.Alert) *store.Alert) func() (*answer, error) {
		return func() (*answer, error) {
			for i, al := range good {
				if al = now(al); al != nil {
					rows[index[i]] = row{Status: settledStatus(al, fasthttp.StatusCreated), Alert: tellAlert(al)}
				}
			}
			return reply(fasthttp.StatusOK, bulk{rows})
		}
	}
	if len(good) == 0 { // nothing is made, and nothing is to be remembered
		return reply(fasthttp.StatusOK, bulk{rows})
	}
	out, err := c.once(func(o *store.Once) error {
		return a.deps.Store.CreateAlerts(c.ctx, c.tenant.Num, good, o)
	}, tell(func(al *store.Alert) *store.Alert { return al }))
	if err != nil || out.kept {
		return out, err
	}
	nums := make([]int64, len(good))
	for i, al := range good {
		nums[i] = al.Num
	}
	a.awaitApplied(c.ctx, nums...)
	settled, err := a.deps.Store.AlertsByNum(c.ctx, nums)
	if err != nil {
		return nil, err
	}
	if out, err = tell(func(al *store.Alert) *store.Alert { return settled[al.Num] })(); err != nil {
		return nil, err
	}
	return out, a.keep(c, out)
}

// fit is how many of some new alerts the tenant's quota has room for, and the problem of the others.
type fit struct {
	n       int
	problem rest.Problem
}

func (a *api) fitting(c *call, n int) (f fit, err error) {
	t, used, err := a.deps.Store.Tenant(c.ctx, c.tenant.Num)
	if err != nil {
		return f, err
	}
	limit := a.cfg.MaxAlerts
	if t.Quota.Alerts > 0 {
		limit = t.Quota.Alerts
	}
	f.n = max(0, min(n, limit-int(used.Alerts)))
	f.problem = a.problemOf(&route{method: post, path: "/v1/alerts"}, &store.QuotaError{What: "alerts", Limit: limit})
	return f, nil
}

type bulk struct {
	Results []row `json:"results"`
}

// Limits of an alert.
const (
	maxName      = 200
	maxSym       = 64
	maxLabels    = 20
	maxLabel     = 64
	maxMetadata  = 4 << 10
	maxTargets   = 100
	maxSuggested = 3
)

// alertReader reads the alerts of a request.
type alertReader struct {
	a *api
	c *call

	instruments map[string]*store.Instrument // looked up so far; nil: there is none of that name
	known       map[int64]bool               // whether an endpoint that was looked up is the tenant's
	suggested   int
}

// read reads an alert that is to be made.
func (r *alertReader) read(o *object) (*store.Alert, error) {
	o.need("sym", "rule")
	sym := canonicalSym(o.text("sym", maxSym))
	text, _ := o.take("rule")
	al := &store.Alert{Tenant: r.c.tenant.Num, State: store.AlertPending}
	r.details(o, al)
	if wrong := o.end(); wrong != nil {
		return nil, wrong
	}
	if !isSym(sym) {
		o.refuse("sym", "not the name of an instrument, such as BTC-USDT")
		return nil, *o.wrong
	}
	if err := r.targets(o, al); err != nil {
		return nil, err
	}
	in, err := r.instrument(o, sym)
	if err != nil {
		return nil, err
	}
	al.Sym, al.Inst, al.Partition = in.Sym, in.Inst, in.Partition
	return al, setRule(o, al, in, text)
}

// details reads what says nothing about when the alert fires.
func (r *alertReader) details(o *object, al *store.Alert) {
	if o.has("name") {
		al.Name = o.text("name", maxName)
	}
	if o.has("labels") {
		al.Labels = o.texts("labels", maxLabels, maxLabel)
	}
	if o.has("endpoints") {
		al.Endpoints = nil
		for i, id := range o.texts("endpoints", maxTargets, maxSym) {
			num, err := store.ParseID(store.EndpointPrefix, id)
			if err != nil {
				o.bad(o.item("endpoints", i), "not the id of an endpoint")
			}
			al.Endpoints = append(al.Endpoints, num)
		}
	}
	if o.null("metadata") {
		al.Metadata = ""
	}
	if text, ok := o.take("metadata"); ok {
		var b bytes.Buffer
		switch err := json.Compact(&b, text); {
		case text[0] != '{' || err != nil:
			o.refuse("metadata", "must be a JSON object")
		case b.Len() > maxMetadata:
			o.refuse("metadata", "%d bytes; %d are the most", b.Len(), maxMetadata)
		default:
			al.Metadata = b.String()
		}
	}
}

// targets refuses endpoints that are not the tenant's.
func (r *alertReader) targets(o *object, al *store.Alert) error {
	for i, n := range al.Endpoints {
		mine, seen := r.known[n]
		if !seen {
			_, err := r.a.endpointOf(r.c, n)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if r.known == nil {
				r.known = make(map[int64]bool)
			}
			mine = err == nil
			r.known[n] = mine
		}
		if !mine {
			o.bad(o.item("endpoints", i), "there is no such endpoint")
			return *o.wrong
		}
	}
	return nil
}

// instrument finds the instrument that an alert is about.
func (r *alertReader) instrument(o *object, sym string) (*store.Instrument, error) {
	in, seen := r.instruments[sym]
	if !seen {
		var err error
		in, err = r.a.deps.Store.Instrument(r.c.ctx, sym)
		if errors.Is(err, store.ErrNotFound) {
			in, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		if r.instruments == nil {
			r.instruments = make(map[string]*store.Instrument)
		}
		r.instruments[sym] = in
	}
	if in == nil {
		return nil, r.unknown(o, sym)
	}
	return in, traded(in, o.path+"sym")
}

// traded refuses an instrument about which no alert can fire any more.
func traded(in *store.Instrument, param string) error {
	if in.State == market.Delisted.String() {
		return &rest.Problem{Status: fasthttp.StatusConflict, Code: "delisted", Param: param, Detail: in.Sym + " has been delisted: no alert about it can fire any more"}
	}
	return nil
}

// unknown says that there is no such instrument, and for the first ones of a request what might have been meant.
func (r *alertReader) unknown(o *object, sym string) error {
	p := &rest.Problem{Status: fasthttp.StatusNotFound, Code: "unknown_symbol", Param: o.path + "sym", Detail: "there is no instrument " + sym}
	if r.suggested++; r.suggested > maxSuggested {
		return p
	}
	all, err := r.a.deps.Store.Instruments(r.c.ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Sym
	}
	switch near := nearest(sym, names, maxSuggested); {
	case len(names) == 0:
		p.Detail += ", nor any other yet: the service has not seen the market"
	case len(near) > 0:
		p.Detail += "; did you mean " + strings.Join(near, ", ") + "?"
	}
	return p
}

// setRule reads a rule for an instrument.
func setRule(o *object, al *store.Alert, in *store.Instrument, text json.RawMessage) error {
	scales := rule.Scales{Price: in.PriceScale, Size: in.SizeScale}
	spec, err := rule.Parse(text, scales)
	var field *rule.FieldError
	switch {
	case errors.As(err, &field):
		o.refuse(strings.TrimSuffix("rule."+printable(field.Field), "."), "%s", printable(field.Msg))
		return *o.wrong
	case err != nil:
		o.refuse("rule", "%s", printable(err.Error()))
		return *o.wrong
	}
	al.Rule = string(spec.AppendJSON(nil, scales))
	return nil
}

// changeAlert changes what a PATCH names.
func (a *api) changeAlert(c *call) (*answer, error) {
	num, err := c.num(store.AlertPrefix)
	if err != nil {
		return nil, err
	}
	was, err := a.alert(c, num)
	if err != nil {
		return nil, err
	}
	r := alertReader{a: a, c: c}
	text, ruled := c.body.take("rule")
	aimed := c.body.has("endpoints")
	next := *was
	r.details(c.body, &next)
	if wrong := c.body.end(); wrong != nil {
		return nil, wrong
	}
	if aimed { // those that it has may have been deleted since
		if err := r.targets(c.body, &next); err != nil {
			return nil, err
		}
	}
	if ruled {
		in, err := a.deps.Store.Instrument(c.ctx, was.Sym)
		if err == nil {
			err = traded(in, "rule")
		}
		if err != nil {
			return nil, err
		}
		if err := setRule(c.body, &next, in, text); err != nil {
			return nil, err
		}
	}
	al, err := a.deps.Store.UpdateAlert(c.ctx, c.tenant.Num, num, func(al *store.Alert) error {
		if err := c.matched(al.Updated.UnixMicro()); err != nil {
			return err
		}
		// What the request does not name stays as it is by now.
		if next.Name != was.Name {
			al.Name = next.Name
		}
		if !slices.Equal(next.Labels, was.Labels) {
			al.Labels = next.Labels
		}
		if !slices.Equal(next.Endpoints, was.Endpoints) {
			al.Endpoints = next.Endpoints
		}
		if next.Metadata != was.Metadata {
			al.Metadata = next.Metadata
		}
		if ruled {
			al.Rule = next.Rule
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.settled(c, al)
}

func conflict(why string) error {
	return &rest.Problem{Status: fasthttp.StatusConflict, Code: "conflict", Detail: why}
}

func (a *api) pauseAlert(c *call) (*answer, error) { return a.turnAlert(c, a.deps.Store.PauseAlert) }

func (a *api) resumeAlert(c *call) (*answer, error) { return a.turnAlert(c, a.deps.Store.ResumeAlert) }

// turnAlert changes the state of an alert.
func (a *api) turnAlert(c *call, turn func(ctx context.Context, tenant, num int64) (*store.Alert, error)) (*answer, error) {
	return a.act(c, store.AlertPrefix, func(num int64) (*answer, error) {
		al, err := turn(c.ctx, c.tenant.Num, num)
		if err != nil {
			return nil, err
		}
		return a.settled(c, al)
	})
}

func (a *api) deleteAlert(c *call) (*answer, error) {
	num, err := c.num(store.AlertPrefix)
	if err != nil {
		return nil, err
	}
	return gone(a.deps.Store.DeleteAlert(c.ctx, c.tenant.Num, num))
}

// gone answers that something is not there any more.
func gone(err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	return &answer{Status: fasthttp.StatusNoContent}, nil
}

// page is the part of a list that is asked for, and one item more, to see whether there is another page. Lists go from new to
// old.
func (c *call) page() store.Page {
	p := store.Page{Limit: int(c.number(0)) + 1}
	p.Before, _ = cursor(c.args[1]) // rest.ParseParams has looked at it
	return p
}

// number is an argument that is known to be one.
func (c *call) number(i int) int64 {
	var n int64
	_, _ = fmt.Sscan(c.args[i], &n) // rest.ParseParams has looked at it
	return n
}

func isLabel(s string) bool {
	n := utf8.RuneCountInString(s)
	return n > 0 && n <= maxLabel && utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable)
}

func isSym(s string) bool {
	return s != "" && len(s) <= maxSym && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// canonicalSym is how instruments are spelled: in upper case, except behind the @ of a venue.
func canonicalSym(s string) string {
	name, venue, at := strings.Cut(s, "@")
	if s = strings.ToUpper(name); at {
		s += "@" + strings.ToLower(venue)
	}
	return s
}
