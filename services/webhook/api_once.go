package webhook

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/webhook/store"
)

const maxIdempotencyKey = 255

// name reads the request's Idempotency-Key.
func (c *call) name(r *route) error {
	lines := c.http.Request.Header.PeekAll(idempotencyKey)
	if len(lines) == 0 || r.method != fasthttp.MethodPost {
		return nil
	}
	key := string(lines[0])
	if len(lines) > 1 || key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return &rest.Problem{Status: fasthttp.StatusBadRequest, Code: "bad_request", Param: idempotencyKey, Detail: fmt.Sprintf("must have from 1 to %d printable ASCII characters", maxIdempotencyKey)}
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s\n", r.method, c.http.Path()) // it never fails
	_, _ = h.Write(c.http.Request.Body())
	c.repeat = &store.Once{Key: key}
	h.Sum(c.repeat.Request[:0])
	return nil
}

// owner is whose the names of requests are.
func (c *call) owner() int64 {
	if c.tenant == nil {
		return 0 // the admin's
	}
	return c.tenant.Num
}

// once makes something, and answers by tell. With an Idempotency-Key, what is made and the answer that is kept are one
// transaction; if the request was made before, its answer is given again.
func (c *call) once(do func(*store.Once) error, tell func() (*answer, error)) (*answer, error) {
	if c.repeat == nil {
		if err := do(nil); err != nil {
			return nil, err
		}
		return tell()
	}
	var failed error
	c.repeat.Render = func() []byte {
		out, err := tell()
		if err != nil {
			failed = err
			return nil
		}
		return mustEncode(out)
	}
	if err := do(c.repeat); err != nil {
		return c.repeated(err)
	}
	if failed != nil {
		return nil, failed
	}
	return tell()
}

// repeatable does something that makes nothing. With an Idempotency-Key it is done once, unless the process ends in the middle,
// or it is asked for twice at the same time.
func (a *api) repeatable(c *call, do func() (*answer, error)) (*answer, error) {
	if c.repeat == nil {
		return do()
	}
	out, err := do()
	if err != nil {
		return nil, err
	}
	c.repeat.Answer = mustEncode(out)
	if err := a.deps.Store.Once(c.ctx, c.owner(), c.repeat); err != nil {
		return c.repeated(err) // another one was quicker
	}
	return out, nil
}

// act is repeatable for what is done to the thing that the path names, when nothing more is to be read of the body.
func (a *api) act(c *call, prefix string, do func(num int64) (*answer, error)) (*answer, error) {
	if wrong := c.body.end(); wrong != nil {
		return nil, wrong
	}
	num, err := c.num(prefix)
	if err != nil {
		return nil, err
	}
	return a.repeatable(c, func() (*answer, error) { return do(num) })
}

// keep replaces the answer that is kept of a request that was answered by once.
func (a *api) keep(c *call, out *answer) error {
	if c.repeat == nil {
		return nil
	}
	c.repeat.Answer = mustEncode(out)
	return a.deps.Store.Keep(c.ctx, c.owner(), c.repeat)
}

// repeated is the answer that was given before, or why there is none.
func (c *call) repeated(err error) (*answer, error) {
	switch {
	case errors.Is(err, store.ErrReused):
		return nil, &rest.Problem{Status: fasthttp.StatusUnprocessableEntity, Code: "idempotency", Param: idempotencyKey, Detail: "another request was made with this key within 24 hours"}
	case errors.Is(err, store.ErrNoAnswer):
		return nil, conflict("the request was made before, but its answer has not been kept")
	case !errors.Is(err, store.ErrRepeated):
		return nil, err
	}
	out := &answer{kept: true}
	if err := json.Unmarshal(c.repeat.Answer, out); err != nil {
		return nil, fmt.Errorf("the answer that was kept: %w", err)
	}
	return out, nil
}

// mustEncode is for answers, whose body is JSON.
func mustEncode(out *answer) []byte {
	b, err := json.Marshal(out)
	if err != nil {
		panic("webhook: an answer that is no JSON: " + err.Error())
	}
	return b
}
