// Package filewatch reports when files may have changed, however that is done: written in place, renamed over, deleted
// and recreated, or behind a symbolic link that was replaced, as Kubernetes does with its volumes.
package filewatch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// patience times [Settings.Quiet] is how long files that keep changing are waited for.
const patience = 10

// Settings are all that [Files] needs. Every field is required.
type Settings struct {
	Quiet time.Duration // how long nothing must happen before the files are looked at: a writer may be half way
	Poll  time.Duration // how often they are looked at in any case: some filesystems do not report changes
	Log   *slog.Logger
}

// Files calls look once, and then whenever files may have changed, until ctx is done. Look returns the files to watch
// from then on. It is called in this goroutine only, and decides itself whether there is a change: changes of
// neighboring files cause calls too.
func Files(ctx context.Context, settings Settings, look func() []string) {
	w := open(settings)
	defer w.close()
	w.run(ctx, look)
}

// watcher watches folders, not files, because the watch of a file ends when the file is replaced.
type watcher struct {
	Settings

	notify *fsnotify.Watcher // nil where the system has none to give: then all is left to Poll
	events <-chan fsnotify.Event
	errors <-chan error // lost events, which may have been ours
}

func open(settings Settings) *watcher {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		settings.Log.Warn(
			"the system reports no changes of files; they are looked at now and then", "every", settings.Poll, "error", err,
		)
		return &watcher{Settings: settings}
	}
	return &watcher{Settings: settings, notify: notify, events: notify.Events, errors: notify.Errors}
}

func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close()
	}
}

func (w *watcher) run(ctx context.Context, look func() []string) {
	for ctx.Err() == nil {
		if !w.follow(look()) {
			w.wait(ctx)
		}
		w.settle(ctx)
	}
}

// follow watches the folders of these files, and no others. It reports whether to look again, because something may
// have changed before it was watched: a folder is new, or others matter by now.
func (w *watcher) follow(files []string) bool {
	if w.notify == nil {
		return false
	}
	wanted := all(files)
	fresh := w.watch(wanted)
	return fresh || !slices.Equal(wanted, all(files))
}

// watch watches these folders and no others, and reports whether one of them is new.
func (w *watcher) watch(wanted []string) bool {
	watched := w.notify.WatchList() // a folder that was deleted is no longer in it
	for _, folder := range watched {
		if !slices.Contains(wanted, folder) {
			_ = w.notify.Remove(folder)
		}
	}
	fresh := false
	for _, folder := range wanted {
		if !slices.Contains(watched, folder) {
			fresh = w.add(folder) || fresh
		}
	}
	return fresh
}

// add reports whether the folder is watched now. If that fails, polling remains.
func (w *watcher) add(folder string) bool {
	err := w.notify.Add(folder)
	if err != nil && !errors.Is(err, fsnotify.ErrClosed) {
		w.Log.Debug(
			"a folder cannot be watched; it is looked at now and then", "folder", folder, "every", w.Poll, "error", err,
		)
	}
	return err == nil
}

// wait waits until something has changed, or for the poll time.
func (w *watcher) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-w.events:
	case <-w.errors: //nolint:errcheck // the files are checked whatever it is
	case <-time.After(w.Poll):
	}
}

// settle waits until nothing changes any more, but not without end for a writer that never stops.
func (w *watcher) settle(ctx context.Context) {
	enough := time.After(patience * w.Quiet)
	for {
		select {
		case <-ctx.Done():
			return
		case <-enough:
			return
		case <-time.After(w.Quiet):
			return
		case <-w.events:
		case <-w.errors: //nolint:errcheck // the files are checked whatever it is
		}
	}
}
