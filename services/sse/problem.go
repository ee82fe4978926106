package sse

import (
	"encoding/json"

	"github.com/valyala/fasthttp"
)

// problem is an error as RFC 9457 has it. Its type is about:blank: Title is the status's own text, Detail says what is
// wrong, and Param names the parameter that is.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Code   string `json:"code"` // of docs/PROTOCOL.md's errors
	Detail string `json:"detail"`
	Param  string `json:"param,omitempty"`
}

// fail answers with a problem.
func fail(ctx *fasthttp.RequestCtx, p problem) {
	p.Title = fasthttp.StatusMessage(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		panic("sse: a problem that is no JSON: " + err.Error()) // it holds strings and a number
	}
	ctx.Response.ResetBody()
	ctx.SetStatusCode(p.Status)
	ctx.SetContentType("application/problem+json")
	ctx.SetBody(body)
}
