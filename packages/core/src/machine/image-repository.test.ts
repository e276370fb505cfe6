import { expect, test } from 'vitest'
import { imageRepository } from './image-repository.ts'

test('tags and digests are left out, registries and their ports stay', () => {
  const digest = `sha256:${'a'.repeat(64)}`
  expect(
    [
      'registry.internal/shop:deployment-01',
      `registry.internal/shop@${digest}`,
      `localhost:5000/a/b:v1@${digest}`,
      'localhost/a',
    ].map(imageRepository),
  ).toEqual([
    'registry.internal/shop',
    'registry.internal/shop',
    'localhost:5000/a/b',
    'localhost/a',
  ])
})

test('a name without a registry is one of Docker Hub', () => {
  expect(imageRepository('debian:bookworm-slim')).toBe('docker.io/library/debian')
  expect(imageRepository('grafana/grafana')).toBe('docker.io/grafana/grafana')
})
