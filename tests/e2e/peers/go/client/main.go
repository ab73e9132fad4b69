// Command client is a proxyless gRPC client that follows xDS.
//
//	GRPC_XDS_BOOTSTRAP=bootstrap.json client xds:///HOST:PORT
//
// For each line "ask N" on standard input it makes N calls and prints one line of JSON: who answered
// how often and what failed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/xds"
)

// method answers with the name of who was asked, as bytes.
const method = "/crossfade.test.Backend/Who"

// raw passes bytes through.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error)      { return *value.(*[]byte), nil }
func (raw) Unmarshal(data []byte, value any) error { *value.(*[]byte) = data; return nil }
func (raw) Name() string                           { return "raw" }

type report struct {
	Sides    map[string]int `json:"sides"`
	Failures int            `json:"failures"`
	Errors   []string       `json:"errors"`
}

func ask(channel *grpc.ClientConn, count int) report {
	told := report{Sides: map[string]int{}, Errors: []string{}}
	for range count {
		within, done := context.WithTimeout(context.Background(), 20*time.Second)
		var question, answer []byte
		err := channel.Invoke(within, method, &question, &answer, grpc.ForceCodec(raw{}), grpc.WaitForReady(true))
		done()
		if err != nil {
			told.Failures++
			if len(told.Errors) < 5 {
				told.Errors = append(told.Errors, err.Error())
			}
			continue
		}
		told.Sides[string(answer)]++
	}
	return told
}

func main() {
	channel, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var count int
		if _, err := fmt.Sscanf(lines.Text(), "ask %d", &count); err != nil {
			log.Fatalf("%q: %v", lines.Text(), err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(ask(channel, count)); err != nil {
			log.Fatal(err)
		}
	}
}
