package admin_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor/admin"
)

func TestPages(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "bellhop_example", Help: "An example."}))
	ready := false
	server := httptest.NewServer(admin.New(registry, func() bool { return ready }).Handler)
	defer server.Close()
	tests := []struct {
		method, path string
		ready        bool
		status       int
		body         string
	}{
		{http.MethodGet, "/livez", false, 200, "alive"},
		{http.MethodGet, "/readyz", false, 503, "not ready"},
		{http.MethodGet, "/readyz", true, 200, "ready"},
		{http.MethodGet, "/metrics", true, 200, "bellhop_example 0"},
		{http.MethodGet, "/", true, 200, "/metrics"},
		{http.MethodGet, "/other", true, 404, ""},
		{http.MethodPost, "/livez", true, 405, ""},
	}
	for _, test := range tests {
		ready = test.ready
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
