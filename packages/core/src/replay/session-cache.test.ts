import { expect, test } from 'vitest'
import type { ReplayCacheRule } from '../machine/config.ts'
import { cookieOf, sessionOf } from './session-cache.ts'

const rule = (path_prefix: string, more: Partial<ReplayCacheRule> = {}): ReplayCacheRule => ({
  ...{ path_prefix, ttl_seconds: 60, type: 'cookie', name: 'sid' },
  ...more,
})
const rules = [
  rule('/'),
  rule('/app', { name: 'app' }),
  rule('other.test/app', { type: 'header', name: 'x-user' }),
]
const find = (path: string, host = 'shop.test', value: string | undefined = 'v') =>
  sessionOf(rules, { host, path, valueOf: (type, name) => value && `${type}:${name}:${value}` })
    ?.key

test('the rule with the longest path counts, that of the host before that of all', () => {
  expect(find('/x')).toContain('cookie:sid:v')
  expect(find('/app')).toContain('cookie:app:v')
  expect(find('/app/1')).toContain('cookie:app:v')
  expect(find('/apple')).toContain('cookie:sid:v')
  expect(find('/app', 'other.test')).toContain('header:x-user:v')
  expect(find('/app', 'other.test')).not.toBe(find('/app'))
})

test('who has no session has no key', () => {
  expect(find('/x', 'shop.test', '')).toBeUndefined()
  expect(sessionOf([], { host: 'h', path: '/', valueOf: () => 'v' })).toBeNull()
})

test('a cookie is found among others', () => {
  expect(cookieOf('a=1; sid=x=y ;b=2', 'sid')).toBe('x=y')
  expect(cookieOf('asid=1', 'sid')).toBeUndefined()
  expect(cookieOf(undefined, 'sid')).toBeUndefined()
})
