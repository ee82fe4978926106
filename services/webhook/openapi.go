package webhook

import _ "embed"

// openapiYAML describes the API for programs. A test holds it to the routes, and `make openapi` to the answers.
//
//go:embed openapi.yaml
var openapiYAML []byte

const openapiPath = "/openapi.yaml"
