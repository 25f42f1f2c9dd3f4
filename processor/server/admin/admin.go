// Package admin serves what operators and their machines ask a running Bellhop: whether it is alive, whether it is
// ready, and its metrics. It shows no header value.
package admin

import (
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// New makes the admin server: /livez, /readyz, /metrics, and at / a list of them. Ready and store are called for each
// request. A store that is down does not make Bellhop unready: cached captures stay in use, and removing every Bellhop
// would end that.
func New(gatherer prometheus.Gatherer, ready func() bool, store func() error) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			say(w, http.StatusServiceUnavailable, "not ready: starting or draining")
			return
		}
		if err := store(); err != nil {
			say(w, http.StatusOK, "ready, but "+err.Error()+"; cached headers stay in use")
			return
		}
		say(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		say(
			w, http.StatusOK,
			"Bellhop\n\n/livez    is the process alive\n/readyz   does it take requests\n/metrics  Prometheus metrics",
		)
	})
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
