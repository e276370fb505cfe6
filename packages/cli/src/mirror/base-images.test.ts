import { expect, test } from 'vitest'
import { BASE_IMAGES, chooseImages, shortName } from './base-images.ts'

const names = (asked: readonly string[]) => chooseImages(asked).chosen.map(shortName)

test('Debian and Node are always there, the others when they are named', () => {
  expect(names([])).toEqual(['debian:bookworm-slim', 'node:22-slim'])
  expect(names(['python:3.11-slim'])).toContain('python:3.11-slim')
})

test('a name is taken as people write it', () => {
  for (const name of ['busybox', 'busybox:latest', 'docker.io/library/busybox:latest'])
    expect(names([name])).toContain('busybox:latest')
})

test('what there is no recipe for is said by its name', () => {
  expect(chooseImages(['python:3.13', 'ruby:3.1-slim']).unknown).toEqual(['python:3.13'])
})

test('no line of a recipe has a quote that would end it', () => {
  for (const { made } of BASE_IMAGES)
    if (typeof made === 'object') for (const line of made.run ?? []) expect(line).not.toContain("'")
})
