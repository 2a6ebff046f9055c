// Reads deliveries from stdin and prints which of them the Go library accepts.
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

func accepts(item delivery) bool {
	library, err := standardwebhooks.NewWebhook(item.Secret)
	if err != nil {
		log.Fatal(err)
	}
	headers := http.Header{}
	for name, value := range item.Headers {
		headers.Set(name, value)
	}
	return library.Verify([]byte(item.Body), headers) == nil
}

func main() {
	var deliveries []delivery
	if err := json.NewDecoder(os.Stdin).Decode(&deliveries); err != nil {
		log.Fatal(err)
	}
	verdicts := make([]bool, len(deliveries))
	for i, item := range deliveries {
		verdicts[i] = accepts(item)
	}
	output := map[string][]bool{"standardwebhooks for Go": verdicts}
	if err := json.NewEncoder(os.Stdout).Encode(output); err != nil {
		log.Fatal(err)
	}
}
