package executor

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Times of images that shall be on the host.
const (
	// firstPull is the pause after a pull that failed; it doubles up to lastPull.
	firstPull = 2 * time.Second
	lastPull  = 5 * time.Minute
	// lookAgain is when an image that is there is asked for again: somebody may have removed it, and it stays in use.
	lookAgain = time.Hour
	// progressStep is the least time between two words of how far a pull is.
	progressStep = 250 * time.Millisecond
)

// wish is an image that shall be on the host. All of it belongs to the loop.
type wish struct {
	want   *padisv1.ImageWish
	state  *padisv1.ImageState
	cancel context.CancelFunc
}

// wish begins to bring images that are new, or wanted in another way, and forgets those that are wanted no more.
func (e *Executor) wish(all []*padisv1.ImageWish) {
	wanted := map[string]*padisv1.ImageWish{}
	for _, w := range all {
		wanted[w.GetImage()] = w
	}
	for image, have := range e.images {
		if !proto.Equal(have.want, wanted[image]) {
			have.cancel()
			delete(e.images, image)
		}
	}
	for image, want := range wanted {
		if e.images[image] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(e.background)
		w := &wish{want: want, state: &padisv1.ImageState{Image: image}, cancel: cancel}
		e.images[image] = w
		if e.Containers == nil {
			w.state.Reason, w.state.Message = padisv1.ReasonRuntimeUnavailable, e.NoContainers
			continue
		}
		go e.bring(ctx, w)
	}
}

// bring pulls an image until it is there, and looks now and then whether it still is.
func (e *Executor) bring(ctx context.Context, w *wish) {
	pull := runtime.Pull{Image: w.want.GetImage(), Auths: w.want.GetRegistryAuths(), Registries: w.want.GetRegistries()}
	for pause := firstPull; ; {
		image, err := e.Containers.Pull(ctx, pull, seldom(func(done, total int64) {
			e.image(w, func(now time.Time, s *padisv1.ImageState) {
				s.Progress = &padisv1.ImageProgress{DoneBytes: done, TotalBytes: total}
				e.tellSoon(now)
			})
		}))
		if ctx.Err() != nil {
			return
		}
		e.image(w, func(now time.Time, s *padisv1.ImageState) {
			e.pull(uint64(s.GetProgress().GetDoneBytes()), err != nil)
			s.Present, s.Digest, s.Progress, s.Reason, s.Message = err == nil, image.Digest, nil, "", ""
			if f := failure(padisv1.ReasonRegistryUnavailable, err); f != nil {
				s.Digest, s.Reason, s.Message = "", f.Reason, f.Message
			}
			e.tell(now)
		})
		wait := lookAgain
		if err != nil {
			e.Log.Warn("an image could not be brought here; trying again", zap.String("image", pull.Image), zap.Duration("after", pause), zap.Error(err))
			wait, pause = pause, min(2*pause, lastPull)
		} else {
			pause = firstPull
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// image lets the loop change the state of a wish, if it is still one. What was said is not changed: it is a copy.
func (e *Executor) image(w *wish, change func(time.Time, *padisv1.ImageState)) {
	e.post(func(now time.Time) {
		if e.images[w.want.GetImage()] == w {
			w.state = proto.CloneOf(w.state)
			change(now, w.state)
		}
	})
}

// seldom passes progress on a few times each second.
func seldom(f func(done, total int64)) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= progressStep {
			last = now
			f(done, total)
		}
	}
}
