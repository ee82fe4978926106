package rest

import (
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/door"
)

// TellQuota tells a client how many requests it may make, as draft-ietf-httpapi-ratelimit-headers-06 says.
func TellQuota(ctx *fasthttp.RequestCtx, q door.Quota) {
	if q.Exempt {
		return
	}
	h := &ctx.Response.Header
	h.Set("RateLimit-Limit", strconv.Itoa(q.Limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(q.Left))
	h.Set("RateLimit-Reset", WholeSeconds(q.Full))
	if !q.OK {
		h.Set(fasthttp.HeaderRetryAfter, WholeSeconds(q.Wait))
	}
}

// TooMany answers somebody who has asked too much.
func TooMany(ctx *fasthttp.RequestCtx) { Fail(ctx, AskedTooMuch()) }

// AskedTooMuch is the problem that TooMany answers with.
func AskedTooMuch() Problem {
	return Problem{Status: fasthttp.StatusTooManyRequests, Code: "rate", Detail: "too many requests; Retry-After says when there may be another one"}
}

// WholeSeconds is a time to wait, at least a second.
func WholeSeconds(d time.Duration) string {
	return strconv.Itoa(int(max(1, math.Ceil(d.Seconds()))))
}
