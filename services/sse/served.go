package sse

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// served counts requests, by route and status.
type served struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	limited  prometheus.Counter
}

func newServed(reg prometheus.Registerer) (*served, error) {
	c := &served{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sse_requests_total", Help: "Requests answered, a stream when it begins, by route and HTTP status.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sse_request_seconds", Help: "From a request's arrival to its answer, or to the beginning of its stream; a long poll's wait is in it.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 4, 10),
		}, []string{"route"}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{Name: "sse_rate_limited_total", Help: "Requests refused because their sender has made too many."}),
	}
	if reg == nil {
		return c, nil
	}
	for _, m := range []prometheus.Collector{c.requests, c.seconds, c.limited} {
		if err := reg.Register(m); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return c, nil
}

// note counts an answer.
func (c *served) note(ctx *fasthttp.RequestCtx, path string, begin time.Time) {
	route := routeOf(path)
	c.requests.WithLabelValues(route, codeText(ctx.Response.StatusCode())).Inc()
	c.seconds.WithLabelValues(route).Observe(time.Since(begin).Seconds())
}

// routeOf is the route that a path belongs to: there are few, whatever peers ask for.
func routeOf(path string) string {
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		if e, _ := endpointOf(rest); e != nil {
			return e.path
		}
	}
	if base, ok := strings.CutPrefix(path, "/v1/sse/"); ok {
		name, _ := strings.CutSuffix(base, "/all")
		if _, ok := streamed[name]; ok {
			return "/v1/sse/" + name
		}
	}
	switch path {
	case openapiPath, modulePath, "/v1/ticket":
		return path
	}
	return "other"
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
