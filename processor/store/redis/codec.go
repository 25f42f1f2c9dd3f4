package redis

import (
	"encoding/json"
	"time"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// line is a header as it is written, before it is encrypted. A value need not be UTF-8, so it is bytes.
type line struct {
	Name  string `json:"n"`
	Value []byte `json:"v"`
}

type captureText struct {
	Lines    []line        `json:"l"`
	Lifetime time.Duration `json:"t"`
	MaxAge   time.Duration `json:"m"`
	Put      int64         `json:"p"` // Unix time in ms
}

type recordText struct {
	Principal string        `json:"p"`
	Kept      []line        `json:"k"`
	Content   string        `json:"c"`
	Lifetime  time.Duration `json:"l"`
	Idle      time.Duration `json:"i"`
}

func linesOf(capture policy.Capture) []line {
	lines := make([]line, len(capture))
	for i, header := range capture {
		lines[i] = line{header.Name, []byte(header.Value.Reveal())}
	}
	return lines
}

func captureOf(lines []line) policy.Capture {
	var capture policy.Capture
	for _, line := range lines {
		capture = append(capture, policy.Header{Name: line.Name, Value: policy.NewValue(string(line.Value))})
	}
	return capture
}

func encodeCapture(n cachedCapture) ([]byte, error) {
	return json.Marshal(captureText{linesOf(n.capture), n.life.Idle, n.life.MaxAge, n.put.UnixMilli()})
}

func decodeCapture(text []byte) (cachedCapture, error) {
	var read captureText
	err := json.Unmarshal(text, &read)
	return cachedCapture{
		capture: captureOf(read.Lines), life: ticket.Life{Idle: read.Lifetime, MaxAge: read.MaxAge},
		put: time.UnixMilli(read.Put),
	}, err
}

func encodeRecord(r session.Record, idle time.Duration) ([]byte, error) {
	return json.Marshal(recordText{r.Principal, linesOf(r.Kept), r.Content, r.Lifetime, idle})
}

func decodeRecord(text []byte) (session.Record, time.Duration, error) {
	var read recordText
	err := json.Unmarshal(text, &read)
	return session.Record{
		Principal: read.Principal, Kept: captureOf(read.Kept), Content: read.Content, Lifetime: read.Lifetime,
	}, read.Idle, err
}
