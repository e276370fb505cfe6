import { expect, test } from 'vitest'
import { isLaunchable, withNames } from './kept-config.ts'

const file = (content: string) => ({
  path: '/x/fly.toml',
  shown: 'fly.toml',
  folder: '/x',
  content,
})
const names = { app: 'shop', primaryRegion: 'ams' }

test('a file that names no app is meant to be launched, one that names one only when somebody says so', () => {
  expect(isLaunchable(file('[http_service]\n'), false)).toBe(true)
  expect(isLaunchable(file('app = "blog"\n'), false)).toBe(false)
  expect(isLaunchable(file('app = "blog"\n'), true)).toBe(true)
})

test('names come after the comments at the head, and everything else stays', () => {
  expect(withNames('# An example.\n\n[http_service]\n  internal_port = 80 # here\n', names)).toBe(
    '# An example.\napp = "shop"\nprimary_region = "ams"\n\n[http_service]\n  internal_port = 80 # here\n',
  )
})

test('names that are there are replaced, and only at the top', () => {
  expect(withNames('primary_region = "iad"\napp = "blog"\n[env]\napp = "mine"\n', names)).toBe(
    'primary_region = "ams"\napp = "shop"\n[env]\napp = "mine"\n',
  )
})
