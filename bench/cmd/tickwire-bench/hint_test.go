package main

import (
	"errors"
	"strings"
	"testing"
)

func TestHint(t *testing.T) {
	for says, want := range map[string]string{
		"20 clients: tls: failed to verify certificate: x509: signed by nobody":            "--insecure",
		"x509: signed by nobody (--insecure takes it)":                                     "",
		"https://a:1/v1/instruments: tls: first record does not look like a TLS handshake": "ws://",
		"client: handshake with a:1: unexpected EOF":                                       "wss://",
		"http://a:1/v1/instruments: EOF":                                                   "https://",
		"client: bbo:*: auth_required: say who you are":                                    "--token",
		"dial tcp a:1: connect: connection refused":                                        "--addr-file",
		"target has ended: EOF":                                                            "",
	} {
		if got := hint(errors.New(says)); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", says, got, want)
		}
	}
}
