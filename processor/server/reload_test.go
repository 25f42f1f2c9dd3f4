package server_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"bellhop/policy"
	"bellhop/processor/server"
)

const (
	older  = "version: 1\nforward: [x-old]\n"
	newer  = "version: 1\nforward: [x-new]\n"
	faulty = "version: 1\nforward:\n  - host\n  - x-a\n  - te\n"
)

// site is a running Bellhop and the files it runs on.
type site struct {
	*server.Server
	config server.Config
	client extprocv3.ExternalProcessorClient
	log    *safeBuffer
}

// serve starts Bellhop on a policy; prepare may add files and links to the folder first.
func serve(t *testing.T, text string, prepare func(folder string), configure ...func(*server.Config)) *site {
	t.Helper()
	c := config(t)
	c.Admin, c.Settle = freePort(t), 5*time.Millisecond
	write(t, filepath.Dir(c.Policies[0]), "policy.yaml", text)
	if prepare != nil {
		prepare(filepath.Dir(c.Policies[0]))
	}
	for _, configure := range configure {
		configure(&c)
	}
	s := &site{config: c, log: &safeBuffer{}}
	s.Server, _, _, _ = begin(t, c, slog.New(slog.NewTextHandler(s.log, nil)))
	s.client = extprocv3.NewExternalProcessorClient(dial(t, c.Listen, insecure.NewCredentials()))
	if c.Ceiling == "" &&
		strings.HasSuffix(
			c.Policies[0],
			".yaml",
		) { // below a ceiling the same text is another policy; in a folder it is not alone
		s.wantPolicy(t, text)
	}
	return s
}

func (s *site) folder() string { return filepath.Dir(s.config.Policies[0]) }

// metric is the value of one line of /metrics.
func (s *site) metric(t *testing.T, name string) string {
	t.Helper()
	_, body := get(t, s.config.Admin, "/metrics")
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.+)$`).FindStringSubmatch(body)
	if match == nil {
		return ""
	}
	return match[1]
}

func (s *site) wantMetric(t *testing.T, name, want string) {
	t.Helper()
	wait(t, func() bool { return s.metric(t, name) == want })
}

func reloads(outcome string) string { return `bellhop_policy_reloads_total{outcome="` + outcome + `"}` }

// wantPolicy waits until exactly this policy is in force, for metrics and for requests.
func (s *site) wantPolicy(t *testing.T, text string) {
	t.Helper()
	loaded, findings := policy.Load("policy.yaml", []byte(text))
	if loaded == nil {
		t.Fatal(findings.Error())
	}
	info := fmt.Sprintf(`bellhop_policy_info{digest=%q,fanout=%q}`, loaded.Digest(), loaded.Fanout())
	s.wantMetric(t, info, "1")
	if _, body := get(t, s.config.Admin, "/metrics"); strings.Count(body, "\nbellhop_policy_info") != 1 {
		t.Errorf("not one policy is in force: %s", body)
	}
	if !slices.Contains(loaded.IngressFootprint().Writes, "x-old") {
		return
	}
	if removed, _ := s.ask(t, "ingress", "", "x-old"); !slices.Contains(removed, "x-old") {
		t.Errorf("requests are served by another policy: removed are %v", removed)
	}
}

// ask sends one request with these headers, of the value v where none is said, and returns what Bellhop takes off it
// and sets.
func (s *site) ask(t *testing.T, role, ticket string, names ...string) (removed []string, set map[string]string) {
	t.Helper()
	removed, set, err := s.try(role, ticket, names...)
	if err != nil {
		t.Fatal(err)
	}
	return removed, set
}

func (s *site) try(role, ticket string, names ...string) (removed []string, set map[string]string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := s.client.Process(
		metadata.AppendToOutgoingContext(ctx, "bellhop-role", role, "bellhop-backend", "a"),
		grpc.WaitForReady(true),
	)
	if err != nil {
		return nil, nil, err
	}
	headers := &corev3.HeaderMap{}
	for _, name := range names {
		name, value, _ := strings.Cut(name, ": ")
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(cmp.Or(value, "v"))})
	}
	if ticket != "" {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: policy.TicketHeader, RawValue: []byte(ticket)})
	}
	if role == "egress" { // the stream of a session, which discovery has too
		headers.Headers = append(
			headers.Headers, &corev3.HeaderValue{Key: ":method", RawValue: []byte("GET")},
			&corev3.HeaderValue{Key: policy.SessionHeader, RawValue: []byte("s")},
		)
	}
	if err := stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extprocv3.HttpHeaders{Headers: headers, EndOfStream: true},
	}}); err != nil {
		return nil, nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	_ = stream.CloseSend()
	if refused := answer.GetImmediateResponse(); refused != nil {
		return nil, nil, errors.New(string(refused.GetBody()))
	}
	mutation := answer.GetRequestHeaders().GetResponse().GetHeaderMutation()
	set = map[string]string{}
	for _, option := range mutation.GetSetHeaders() {
		set[option.GetHeader().GetKey()] = string(option.GetHeader().GetRawValue())
	}
	return mutation.GetRemoveHeaders(), set, nil
}

func (s *site) write(t *testing.T, text string) {
	t.Helper()
	replace(t, s.config.Policies[0], text)
}

// replace puts a whole file in the place of another, as careful writers do.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, filepath.Dir(path), filepath.Base(path)+"~", content)
	must(t, os.Rename(path+"~", path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPolicyIsReloadedHoweverItIsChanged(t *testing.T) {
	volume := func(folder string) { // as Kubernetes lays one out
		must(t, os.Mkdir(folder+"/..1", 0o750))
		must(t, os.Rename(folder+"/policy.yaml", folder+"/..1/policy.yaml"))
		must(t, os.Symlink("..1", folder+"/..data"))
		must(t, os.Symlink("..data/policy.yaml", folder+"/policy.yaml"))
	}
	tests := []struct {
		name    string
		prepare func(folder string)
		change  func(t *testing.T, folder, text string)
	}{
		{"in place", nil, func(t *testing.T, folder, text string) { write(t, folder, "policy.yaml", text) }},
		{"renamed over", nil, func(t *testing.T, folder, text string) { replace(t, folder+"/policy.yaml", text) }},
		{"deleted and made again", nil, func(t *testing.T, folder, text string) {
			must(t, os.Remove(folder+"/policy.yaml"))
			write(t, folder, "policy.yaml", text)
		}},
		{"ConfigMap", volume, func(t *testing.T, folder, text string) {
			was, err := os.Readlink(folder + "/..data")
			must(t, err)
			must(t, os.Mkdir(folder+"/"+was+"1", 0o750))
			write(t, folder+"/"+was+"1", "policy.yaml", text)
			must(t, os.Symlink(was+"1", folder+"/..data_tmp"))
			must(t, os.Rename(folder+"/..data_tmp", folder+"/..data"))
			must(t, os.RemoveAll(folder+"/"+was))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, older, test.prepare)
			for _, text := range []string{newer, older, newer} {
				test.change(t, s.folder(), text)
				s.wantPolicy(t, text)
				s.wantMetric(t, "bellhop_policy_reload_success", "1")
			}
			s.wantMetric(t, reloads("applied"), "3")
		})
	}
}

// Invariant 9: whatever is wrong with a new policy, the last good one stays, whole, and metrics and log show it.
func TestErrorsChangeNothing(t *testing.T) {
	tests := []struct {
		name    string
		change  func(t *testing.T, s *site)
		outcome string
		log     []string
	}{
		{
			"invalid",
			func(t *testing.T, s *site) { s.write(t, faulty) },
			"invalid",
			[]string{"policy.yaml:3:5", "errors=2", "level=ERROR"},
		},
		{
			"half written",
			func(t *testing.T, s *site) { s.write(t, "version: 1\nforw") },
			"invalid",
			[]string{"policy.yaml:2:"},
		},
		{"empty", func(t *testing.T, s *site) { s.write(t, "") }, "invalid", []string{"policy.yaml:1:"}},
		{
			"deleted",
			func(t *testing.T, s *site) { must(t, os.Remove(s.config.Policies[0])) },
			"unreadable",
			[]string{"no such file"},
		},
		{"an empty folder", func(t *testing.T, s *site) {
			must(t, os.Remove(s.config.Policies[0]))
			must(t, os.Mkdir(s.config.Policies[0], 0o750))
		}, "unreadable", []string{"holds no policy"}},
		{
			"another fan-out",
			func(t *testing.T, s *site) { s.write(t, "fanout: other\n"+newer) },
			"fanout_changed",
			[]string{`\"\" to \"other\"`, "restart"},
		},
		{"no discovery file", func(t *testing.T, s *site) {
			s.write(t, newer+"backends: {a: {discovery: [{name: x-new, file: later}]}}\n")
		}, "discovery_failed", []string{"discovery header x-new of backend a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, older, nil)
			succeeded := s.metric(t, "bellhop_policy_reload_timestamp_seconds")
			test.change(t, s)
			for _, want := range append(test.log, "the last good one stays in force") {
				wait(t, func() bool { return strings.Contains(s.log.String(), want) })
			}
			s.wantMetric(t, "bellhop_policy_reload_success", "0")
			if n := s.metric(t, reloads(test.outcome)); n == "0" || n == "" {
				t.Errorf("%s reloads were counted as %s", n, test.outcome)
			}
			s.wantPolicy(t, older)
			if now := s.metric(t, "bellhop_policy_reload_timestamp_seconds"); now != succeeded {
				t.Error("the time of the last success has moved")
			}
			_ = os.Remove(s.config.Policies[0])
			replace(t, s.config.Policies[0], newer)
			s.wantPolicy(t, newer)
			s.wantMetric(t, "bellhop_policy_reload_success", "1")
		})
	}
}

// A writer may stop half way, for longer than anybody waits.
func TestAPartlyWrittenPolicyIsNotLoaded(t *testing.T) {
	s := serve(t, older, nil)
	half := len(newer) - 3
	file, err := os.OpenFile(s.config.Policies[0], os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = file.WriteString(newer[:half])
	must(t, err)
	wait(t, func() bool { return strings.Contains(s.log.String(), "policy.yaml:2:") })
	s.wantPolicy(t, older)
	_, err = file.WriteString(newer[half:])
	must(t, errors.Join(err, file.Close()))
	s.wantPolicy(t, newer)
	s.wantMetric(t, "bellhop_policy_reload_success", "1")
}

// A policy that comes back as it was is a success again, and nothing is applied.
func TestReloadingTheSamePolicyRecovers(t *testing.T) {
	s := serve(t, older, nil)
	s.write(t, faulty)
	s.wantMetric(t, "bellhop_policy_reload_success", "0")
	s.write(t, older)
	s.wantMetric(t, "bellhop_policy_reload_success", "1")
	s.wantMetric(t, reloads("unchanged"), "1")
	s.wantMetric(t, reloads("applied"), "0")
}

// What happens beside the files, and a file that is written as it was, is no reload.
func TestNoReloadWhereNothingChanged(t *testing.T) {
	s := serve(t, older, nil)
	for i := range 20 {
		write(t, s.folder(), "neighbour", strings.Repeat("x", i))
		replace(t, s.config.Policies[0], older)
	}
	s.write(t, newer) // what was before it has been looked at by then
	s.wantPolicy(t, newer)
	s.wantMetric(t, reloads("applied"), "1")
	for _, outcome := range []string{"unchanged", "invalid", "unreadable"} {
		s.wantMetric(t, reloads(outcome), "0")
	}
}

// One asked for is made and counted at once, and its error is for who asked.
func TestReloadOnDemand(t *testing.T) {
	s := serve(t, older, nil)
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	s.wantMetric(t, reloads("unchanged"), "1")
	replace(t, s.config.Policies[0], newer)
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	s.wantPolicy(t, newer)
	replace(t, s.config.Policies[0], faulty)
	var findings policy.Findings
	if err := s.Reload(); !errors.As(err, &findings) || findings.Count(policy.SeverityError) != 2 {
		t.Errorf("got %v", err)
	}
	s.wantPolicy(t, newer)
}

// A policy that lists more than Envoy's configuration seems to have no effect, so the log says why.
func TestNewNamesAreLogged(t *testing.T) {
	s := serve(t, older, nil)
	s.write(t, newer)
	s.wantPolicy(t, newer)
	if want := `headers=[x-new] command="bellhop envoy bootstrap --policy ` + s.config.Policies[0]; !strings.Contains(
		s.log.String(),
		want,
	) {
		t.Errorf("%q is not in the log: %s", want, s.log)
	}
}

// A pipe in place of a file blocks neither the start nor a stop: to open one can wait without end.
func TestAPipeInPlaceOfAFileIsRefused(t *testing.T) {
	for name, place := range map[string]func(c *server.Config, path string){
		"policy":  func(c *server.Config, path string) { c.Policies[0] = path },
		"ceiling": func(c *server.Config, path string) { c.Ceiling = path },
		"keys":    func(c *server.Config, path string) { c.KeyFile = path },
	} {
		c := config(t)
		pipe := filepath.Join(t.TempDir(), "pipe")
		must(t, syscall.Mkfifo(pipe, 0o600))
		place(&c, pipe)
		if _, err := server.New(c, quiet()); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// flavour is a policy whose every part differs from that of another.
func flavour(name string) string {
	return strings.ReplaceAll(`version: 1
forward:
  - {name: x-id, as: x-N-1}
  - {name: x-id, as: x-N-2, prefix: "N "}
  - {name: x-both, as: x-N-3}
  - x-N-4
  - x-N-5
backends:
  a: {discovery: [{name: x-N-1, file: one}, {name: x-N-6, file: N}]}
`, "N", name)
}

// Invariant 9: while the policy changes all the time every request is served by exactly one of the two.
func TestNoRequestSeesAMixOfPolicies(t *testing.T) {
	const flips, clients = 50, 8
	s := serve(t, flavour("p"), func(folder string) {
		for _, name := range []string{"one", "p", "q"} {
			write(t, folder, name, name)
		}
	})
	sent := []string{"x-id", "x-both", "x-p-4", "x-p-5", "x-q-4", "x-q-5"}
	_, set := s.ask(t, "ingress", "", sent...)
	ticket := set[policy.TicketHeader]
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var served [2]atomic.Int64 // by the one and by the other
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				for _, got := range []string{s.taken(t, sent), s.given(t, ticket), s.given(t, "")} {
					served[strings.Index("pq", got)].Add(1)
				}
			}
		})
	}
	for i := range flips {
		text := flavour([]string{"q", "p"}[i%2])
		replace(t, s.config.Policies[0], text)
		s.wantPolicy(t, text)
	}
	stop()
	group.Wait()
	t.Logf("%d requests were served by one policy and %d by the other", served[0].Load(), served[1].Load())
	if served[0].Load() < flips || served[1].Load() < flips {
		t.Error("too few requests: the test proves nothing")
	}
	s.wantMetric(t, reloads("applied"), strconv.Itoa(flips))
}

// taken says which policy, p or q, served a client's request.
func (s *site) taken(t *testing.T, sent []string) string {
	removed, set, err := s.try("ingress", "", sent...)
	if err != nil || set[policy.TicketHeader] == "" {
		t.Errorf("ingress: %v, %v", set, err)
		return "p"
	}
	return one(t, removed, func(flavour string) []string {
		return []string{"x-both", "x-id", "x-" + flavour + "-4", "x-" + flavour + "-5"}
	})
}

// given says which policy served a request to a backend, with the ticket of a client or with none.
func (s *site) given(t *testing.T, ticket string) string {
	got, set, err := s.try("egress", ticket) // all names that are Bellhop's alone under the policy
	if err != nil {
		t.Errorf("egress: %v", err)
		return "p"
	}
	for name, value := range set {
		got = append(got, name+"="+value)
	}
	return one(t, got, func(flavour string) []string {
		prefix := "x-" + flavour + "-"
		want := []string{prefix + "1", prefix + "2", prefix + "3", prefix + "4", prefix + "5"}
		switch {
		case ticket == "":
			want = append(want, prefix+"1=one", prefix+"6="+flavour)
		case flavour == "p": // the ticket is of p's time, so it stands for the headers that p names
			want = append(want, prefix+"1=v", prefix+"2=p v", prefix+"3=v", prefix+"4=v", prefix+"5=v")
		default:
			want = append(want, prefix+"1=v", prefix+"2=q v", prefix+"3=v")
		}
		slices.Sort(want)
		return want
	})
}

// one says which of the two flavours these are, and fails where they are of neither or of both.
func one(t *testing.T, got []string, want func(flavour string) []string) string {
	t.Helper()
	got = slices.DeleteFunc(
		got,
		func(name string) bool { return !strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "x-bellhop") },
	)
	slices.Sort(got)
	for _, flavour := range []string{"p", "q"} {
		if slices.Equal(got, want(flavour)) {
			return flavour
		}
	}
	t.Errorf("%v is of neither policy, or of both", got)
	return "p"
}

type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
