// Reads deliveries from stdin and says which of them the library for Go believes.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type delivery struct {
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func believes(one delivery) bool {
	library, err := standardwebhooks.NewWebhook(one.Secret)
	if err != nil {
		log.Fatal(err)
	}
	headers := http.Header{}
	for name, value := range one.Headers {
		headers.Set(name, value)
	}
	return library.Verify([]byte(one.Body), headers) == nil
}

func main() {
	var deliveries []delivery
	if err := json.NewDecoder(os.Stdin).Decode(&deliveries); err != nil {
		log.Fatal(err)
	}
	said := make([]bool, len(deliveries))
	for i, one := range deliveries {
		said[i] = believes(one)
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string][]bool{"standardwebhooks for Go": said}); err != nil {
		log.Fatal(err)
	}
}
