// Package rest is what our HTTP APIs on fasthttp have in common: errors as problems, queries that are read strictly, and
// tokens in headers.
package rest

import (
	"bytes"
	"encoding/json"

	"github.com/valyala/fasthttp"
)

// Problem is an error as RFC 9457 has it. Its type is about:blank: Title is the status's own text, Detail says what is
// wrong, and Param names the parameter, or the member of the body, that is.
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Code   string `json:"code"` // of docs/PROTOCOL.md's errors
	Detail string `json:"detail"`
	Param  string `json:"param,omitempty"`
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Param != "" {
		return p.Param + ": " + p.Detail
	}
	return p.Detail
}

// Fail answers with a problem.
func Fail(ctx *fasthttp.RequestCtx, p Problem) {
	p.Title = fasthttp.StatusMessage(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		panic("rest: a problem that is no JSON: " + err.Error()) // it holds strings and a number
	}
	ctx.Response.ResetBody()
	ctx.SetStatusCode(p.Status)
	ctx.SetContentType("application/problem+json")
	ctx.SetBody(body)
}

// Bearers takes the tokens out of a request's headers.
func Bearers(ctx *fasthttp.RequestCtx) (tokens []string) {
	for _, line := range ctx.Request.Header.PeekAll(fasthttp.HeaderAuthorization) {
		scheme, token, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if bytes.EqualFold(scheme, []byte("Bearer")) {
			tokens = append(tokens, string(bytes.TrimSpace(token)))
		}
	}
	return tokens
}

// Challenge answers with a problem, and when that is that nobody knows who asks, with RFC 6750's way to ask for a token.
func Challenge(ctx *fasthttp.RequestCtx, p Problem) {
	if p.Status == fasthttp.StatusUnauthorized {
		ask := `Bearer realm="tickwire"`
		if p.Code != "auth_required" {
			ask += `, error="invalid_token", error_description="` + p.Detail + `"`
		}
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, ask)
	}
	Fail(ctx, p)
}
