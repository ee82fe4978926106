// Command program reads requests, a line of JSON each, and says of each whether a library accepts it.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stripe/stripe-go/v83/webhook"
	svix "github.com/svix/svix-webhooks/go"
)

type request struct {
	Library string            `json:"library"`
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

type answer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var r request
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		a := answer{OK: true}
		if err := verify(&r); err != nil {
			a = answer{Error: err.Error()}
		}
		if err := out.Encode(a); err != nil {
			log.Fatal(err)
		}
	}
}

func verify(r *request) error {
	headers := http.Header{}
	for name, value := range r.Headers {
		headers.Set(name, value)
	}
	switch r.Library {
	case "standardwebhooks":
		w, err := standardwebhooks.NewWebhook(r.Secret)
		if err != nil {
			return err
		}
		return w.Verify(r.Body, headers)
	case "svix":
		w, err := svix.NewWebhook(r.Secret)
		if err != nil {
			return err
		}
		return w.Verify(r.Body, headers)
	case "stripe":
		return webhook.ValidatePayload(r.Body, headers.Get("Stripe-Signature"), r.Secret)
	}
	return errors.New("unknown library " + r.Library)
}
