import { expect, test } from 'vitest'
import { placesOf } from './places.ts'

const asked: string[] = []
const own = {
  name: 'registry.internal',
  url: 'https://10.210.4.1:5000',
  ca: 'CA',
  token: async (repository: string) => {
    asked.push(repository)
    return 'token'
  },
}
const never = new AbortController().signal

test('what was deployed is only in our registry', async () => {
  const [place, ...others] = placesOf('registry.internal/team/shop', own)
  expect(others).toEqual([])
  expect(place).toMatchObject({ url: own.url, path: 'team/shop', ca: 'CA' })
  await place?.token?.(never)
  expect(asked.at(-1)).toBe('team/shop')
})

test('public images are asked for in our mirror, then at home', async () => {
  const [mirror, home] = placesOf('docker.io/library/debian', own)
  expect(mirror).toMatchObject({ url: own.url, path: 'docker.io/library/debian' })
  await mirror?.token?.(never)
  expect(asked.at(-1)).toBe('docker.io/library/debian')
  expect(home).toMatchObject({
    url: 'https://registry-1.docker.io',
    path: 'library/debian',
    ca: null,
    token: null,
  })
  expect(placesOf('ghcr.io/a/b', own)[1]).toMatchObject({ url: 'https://ghcr.io', path: 'a/b' })
})
