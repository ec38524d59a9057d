package report

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/pagein/pagein/internal/require"
)

// browserTime bounds all that is done in a browser.
const browserTime = 2 * time.Minute

// tab is a page in a browser, and what it said and asked for.
type tab struct {
	context.Context
	t   *testing.T
	url string

	mu    sync.Mutex
	wrong []string
}

// open shows a report in a headless browser.
func open(t *testing.T, r *Report) *tab {
	t.Helper()
	program := require.Tool(t, "chromium")
	path := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.HTML(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	own := userData(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WindowSize(1280, 1000), chromedp.UserDataDir(own),
		chromedp.Env("TMPDIR="+own)) // it leaves sockets and links there
	allocated, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(func() { // waits for the browser's end
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	ctx, expire := context.WithTimeout(ctx, browserTime)
	t.Cleanup(expire)
	p := &tab{Context: ctx, t: t, url: "file://" + path}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if e.Request.URL != p.url {
				p.complain("asks for " + e.Request.URL)
			}
		case *runtime.EventConsoleAPICalled:
			for _, arg := range e.Args {
				p.complain(fmt.Sprintf("says %s: %s %s", e.Type, arg.Value, arg.Description))
			}
		case *runtime.EventExceptionThrown:
			p.complain(e.ExceptionDetails.Error())
		}
	})
	p.do(network.Enable(), chromedp.Navigate(p.url))
	return p
}

// userData is a directory for a browser, some of whose processes write to it for a moment after it has ended.
func userData(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pagein-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error(err)
	})
	return dir
}

func (p *tab) complain(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, s)
}

func (p *tab) do(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns what an expression is.
func eval[T any](p *tab, expression string) (v T) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, &v))
	return v
}

func (p *tab) scheme(name string) {
	p.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}))
}

// picture keeps a screenshot in the directory PAGEIN_SCREENSHOTS, if there is one.
func (p *tab) picture(name string) {
	dir := os.Getenv("PAGEIN_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	p.do(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Error(err)
	}
}

func TestReportsAreWholeInABrowser(t *testing.T) {
	tree := sampleTree(600)
	p := open(t, Make(Input{Timeline: sampleTimeline(tree, 140), Tree: tree}))
	if title := eval[string](p, "document.title"); title != "How registry.example.com/team/app:1 was read" {
		t.Errorf("the title is %q", title)
	}
	colours := make(map[string]bool)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		colours[eval[string](p, "getComputedStyle(document.body).backgroundColor")] = true
		for _, id := range []string{"fall", "bytes", "tree"} {
			box := eval[[]float64](p, fmt.Sprintf("(b => [b.width, b.height])(document.getElementById(%q).getBoundingClientRect())", id))
			if box[0] < 400 || box[1] < 100 {
				t.Errorf("%s: picture %s is %v large", scheme, id, box)
			}
		}
		p.picture(scheme)
	}
	if len(colours) != 2 {
		t.Errorf("light and dark are both %v", colours)
	}
	for selector, least := range map[string]int{"#fall .row": 20, "#fall .row rect.server": 20, "#bytes polyline": 3, "#tree .leaf": 50, "#tree .read": 5, ".advice li": 2, "tbody tr": 60} {
		if n := eval[int](p, fmt.Sprintf("document.querySelectorAll(%q).length", selector)); n < least {
			t.Errorf("there are %d %s", n, selector)
		}
	}
	if wide := eval[bool](p, "document.documentElement.scrollWidth > innerWidth"); wide {
		t.Error("the page scrolls sideways")
	}
	if n := eval[int](p, "document.querySelectorAll('img, iframe, link, object, script[src]').length"); n > 0 {
		t.Errorf("%d elements refer to something else", n)
	}
	p.quiet()
}

// quiet fails if the page asked for anything, or complained.
func (p *tab) quiet() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.wrong) > 0 {
		p.t.Errorf("the page %s", strings.Join(p.wrong, "\nthe page "))
	}
}

func TestReportsAreReadWithTheKeyboard(t *testing.T) {
	tree := sampleTree(600)
	p := open(t, Make(Input{Timeline: sampleTimeline(tree, 60), Tree: tree}))
	focused := func() string { return eval[string](p, "document.activeElement.getAttribute('aria-label') || ''") }
	reach := func(selector string) { // by nothing but the tabulator
		for range 40 {
			p.do(chromedp.KeyEvent(kb.Tab))
			if eval[bool](p, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
				return
			}
		}
		t.Fatalf("the tabulator does not lead to %s", selector)
	}
	reach("#fall .row")
	first := focused()
	if !strings.Contains(first, "waited for") || eval[string](p, "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent") != first {
		t.Errorf("the first row says %q, and shows something else", first)
	}
	p.do(chromedp.KeyEvent(kb.ArrowDown))
	second := focused()
	p.do(chromedp.KeyEvent(kb.End), chromedp.KeyEvent(kb.Home))
	if second == first || focused() != first {
		t.Errorf("arrows lead from %q to %q, Home to %q", first, second, focused())
	}
	reach("#tree .leaf")
	view := func() string {
		return eval[string](p, "[...document.querySelectorAll('#tree .frame rect')].map(r => r.getAttribute('x') + ' ' + r.getAttribute('width')).join()")
	}
	whole := view()
	p.do(chromedp.KeyEvent(kb.Enter))
	closer := view()
	const labelled = "[...document.querySelectorAll('#tree .leaf')].filter(l => l.querySelector('text').textContent == l.dataset.name).length"
	if shown := eval[int](p, labelled); shown == 0 {
		t.Error("looked at closely, no file has its name")
	}
	p.do(chromedp.KeyEvent(kb.Escape))
	if closer == whole || view() != whole {
		t.Errorf("the map shows %q, after Enter %q, after Escape %q", whole, closer, view())
	}
	p.do(chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.End))
	if view() != whole {
		t.Error("what End leads to is not seen")
	}
	p.quiet()
}

// TestHostileNamesDoNothing has names that would run scripts, load pictures or change the title if they were more than text.
func TestHostileNamesDoNothing(t *testing.T) {
	tree := sampleTree(10)
	p := open(t, Make(Input{Title: "<script>document.title='owned'</script>", Timeline: sampleTimeline(tree, 30), Tree: tree}))
	if title := eval[string](p, "document.title"); title == "owned" {
		t.Error("a name ran a script")
	}
	if n := eval[int](p, "document.scripts.length"); n != 1 {
		t.Errorf("there are %d scripts", n)
	}
	p.quiet()
}

// TestReportsAreAccessible has axe look at a report, in both colour schemes.
func TestReportsAreAccessible(t *testing.T) {
	axe, err := os.ReadFile(filepath.FromSlash("../.tools/npm/node_modules/axe-core/axe.min.js"))
	require.Feature(t, err == nil, "axe-core in .tools/npm (hack/deps.sh test)")
	tree := sampleTree(600)
	for name, in := range map[string]Input{"waits": {Timeline: sampleTimeline(tree, 60), Tree: tree}, "prefetched": perfectStart()} {
		p := open(t, Make(in))
		p.do(chromedp.Evaluate("document.querySelectorAll('details').forEach(d => d.open = true)", nil))
		p.do(chromedp.Evaluate(string(axe), nil))
		for _, scheme := range []string{"light", "dark"} {
			p.scheme(scheme)
			p.picture(name + "-" + scheme)
			var violations []struct {
				ID, Help string
				Nodes    []struct{ HTML, FailureSummary string }
			}
			p.do(chromedp.Evaluate("axe.run().then(r => r.violations)", &violations, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
			for _, v := range violations {
				t.Errorf("%s, %s: %s (%s), %d times, first %.300s: %s", name, scheme, v.ID, v.Help, len(v.Nodes), v.Nodes[0].HTML, v.Nodes[0].FailureSummary)
			}
		}
	}
}
