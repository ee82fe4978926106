package rest

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// Served counts requests, by route and status.
type Served struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	Limited  prometheus.Counter
}

// NewServed begins at 0; name is what the metrics' names begin with. A nil registry has none.
func NewServed(reg prometheus.Registerer, name string) (*Served, error) {
	c := &Served{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name + "_requests_total", Help: "Requests answered, a stream when it begins, by route and HTTP status.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name + "_request_seconds", Help: "From a request's arrival to its answer, or to the beginning of its stream; a long poll's wait is in it.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 4, 10),
		}, []string{"route"}),
		Limited: prometheus.NewCounter(prometheus.CounterOpts{Name: name + "_rate_limited_total", Help: "Requests refused because their sender has made too many."}),
	}
	if reg == nil {
		return c, nil
	}
	for _, m := range []prometheus.Collector{c.requests, c.seconds, c.Limited} {
		if err := reg.Register(m); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return c, nil
}

// Note counts an answer. There must be few routes, whatever peers ask for.
func (c *Served) Note(ctx *fasthttp.RequestCtx, route string, begin time.Time) {
	c.requests.WithLabelValues(route, codeText(ctx.Response.StatusCode())).Inc()
	c.seconds.WithLabelValues(route).Observe(time.Since(begin).Seconds())
}

// codeText is a status as text.
func codeText(code int) string {
	switch code { // those that come often cost no memory
	case fasthttp.StatusOK:
		return "200"
	case fasthttp.StatusNotModified:
		return "304"
	case fasthttp.StatusTooManyRequests:
		return "429"
	}
	return strconv.Itoa(code)
}
