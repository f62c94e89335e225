package images

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
)

// usedLabel is when an image was last pulled, asked for or seen in use.
const usedLabel = "padis.io/used"

func (s *Store) stamp() string { return s.config.Now().UTC().Format(time.RFC3339) }

// touch notes that an image is used.
func (s *Store) touch(ctx context.Context, record images.Image) error {
	_, err := s.client.ImageService().Update(ctx, images.Image{Name: record.Name, Labels: map[string]string{usedLabel: s.stamp()}, Target: record.Target}, "labels."+usedLabel)
	return err
}

// usedAt is when an image was last used, as far as is known.
func usedAt(record images.Image) time.Time {
	if t, err := time.Parse(time.RFC3339, record.Labels[usedLabel]); err == nil {
		return t
	}
	return record.UpdatedAt
}

// Remove deletes the images that no container uses and that were not used for that long, with all that only they need,
// and returns their names. An image that was not deleted because of an error does not keep others.
func (s *Store) Remove(ctx context.Context, unused time.Duration) ([]string, error) {
	ctx = s.namespaced(ctx)
	containers, err := s.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	inUse := map[string]bool{}
	for _, c := range containers {
		inUse[c.Image] = true
	}
	records, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var removed []string
	var failed error
	for _, r := range records {
		switch {
		case inUse[r.Name]:
			err = s.touch(ctx, r)
		case s.config.Now().Sub(usedAt(r)) < unused:
			continue
		default:
			var gone bool
			if gone, err = s.remove(ctx, r.Name, unused); gone {
				removed = append(removed, r.Name)
			}
		}
		if err != nil && !errdefs.IsNotFound(err) && failed == nil {
			failed = fmt.Errorf("image %s: %w", r.Name, err)
		}
	}
	slices.Sort(removed)
	return removed, failed
}

// remove deletes an image, unless somebody has asked for it in the meantime.
func (s *Store) remove(ctx context.Context, name string, unused time.Duration) (bool, error) {
	s.usage.Lock()
	defer s.usage.Unlock()
	record, err := s.client.ImageService().Get(ctx, name)
	if err != nil || s.config.Now().Sub(usedAt(record)) < unused {
		return false, err
	}
	if err := s.client.ImageService().Delete(ctx, name, images.SynchronousDelete()); err != nil {
		return false, err
	}
	return true, nil
}
