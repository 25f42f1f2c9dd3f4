package admin_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor/server/admin"
)

func TestPages(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "bellhop_example", Help: "An example."}))
	ready, away := false, error(nil)
	server := httptest.NewServer(admin.New(registry, func() bool { return ready }, func() error { return away }).Handler)
	defer server.Close()
	tests := []struct {
		method, path string
		ready        bool
		away         error
		status       int
		body         string
	}{
		{http.MethodGet, "/livez", false, nil, 200, "alive"},
		{http.MethodGet, "/readyz", false, nil, 503, "not ready"},
		{http.MethodGet, "/readyz", true, nil, 200, "ready\n"},
		{http.MethodGet, "/readyz", true, errors.New("the store is away"), 200, "ready, but the store is away"},
		{http.MethodGet, "/metrics", true, nil, 200, "bellhop_example 0"},
		{http.MethodGet, "/", true, nil, 200, "/metrics"},
		{http.MethodGet, "/other", true, nil, 404, ""},
		{http.MethodPost, "/livez", true, nil, 405, ""},
	}
	for _, test := range tests {
		ready, away = test.ready, test.away
		request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != test.status || !strings.Contains(string(body), test.body) {
			t.Errorf("%s %s: %d %s", test.method, test.path, response.StatusCode, body)
		}
	}
}
