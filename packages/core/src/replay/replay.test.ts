import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  parseReplayBody,
  parseReplayHeader,
  type Replay,
  replayFailed,
  replaySource,
} from './replay.ts'

const NOTHING: Replay = {
  app: null,
  instance: null,
  preferInstance: null,
  regions: [],
  elsewhere: false,
  state: null,
  timeoutMs: null,
  fallback: null,
  transform: null,
  cache: null,
}
const header = (text: string, others = {}) => {
  const parsed = parseReplayHeader(text, others)
  return parsed.kind === 'replay' ? parsed.replay : parsed.why
}
const body = (document: unknown) => {
  const parsed = parseReplayBody(JSON.stringify(document))
  return parsed.kind === 'replay' ? parsed.replay : parsed.why
}

describe('fly-replay', () => {
  test('names an app, a machine, regions in quotes, and more', () => {
    expect(header('region=ams')).toEqual({ ...NOTHING, regions: ['ams'] })
    expect(header('region="ams, IAD";elsewhere=true')).toEqual({
      ...NOTHING,
      regions: ['ams', 'iad'],
      elsewhere: true,
    })
    expect(header('app=Blog; instance=148e3ee;state="a=b"')).toEqual({
      ...NOTHING,
      app: 'blog',
      instance: '148e3ee',
      state: 'a=b',
    })
    expect(header('prefer_instance=1;timeout=1.5s;fallback=prefer_self')).toEqual({
      ...NOTHING,
      preferInstance: '1',
      timeoutMs: 1500,
      fallback: 'prefer_self',
    })
    // What is not known yet is left alone.
    expect(header('region=ams;later=1;')).toEqual({ ...NOTHING, regions: ['ams'] })
  })

  test('what is wrong is refused with the reason', () => {
    expect(header('')).toBe('it is empty')
    expect(header('ams')).toBe('ams has no value')
    expect(header('region=ams;timeout=soon')).toBe('timeout soon is no duration')
    expect(header('app=x;fallback=self')).toContain('neither')
    expect(body({ prefer_instance: 'a\r\nb: c' })).toBe('prefer_instance is no name, or too long')
    expect(body({ region: Array.from({ length: 400 }, () => 'ams') })).toContain('too long')
    expect(header('app=x;state=a\u0001')).toBe('state is not printable')
  })

  test('is kept for later requests where it would be the same for them', () => {
    const asked = { 'fly-replay-cache': 'shop.test/a/*', 'fly-replay-cache-ttl-secs': '3' }
    const kept = { kind: 'keep', prefix: 'shop.test/a/*', ttlSeconds: 10, allowBypass: false }
    expect(header('app=x', asked)).toMatchObject({ cache: kept })
    expect(header('app=x', { ...asked, 'fly-replay-cache-allow-bypass': 'yes' })).toMatchObject({
      cache: { allowBypass: true },
    })
    for (const more of ['state=1', 'timeout=1s', 'fallback=force_self'])
      expect(header(`app=x;${more}`, asked)).toMatchObject({ cache: null })
    expect(header('app=x', { 'fly-replay-cache': 'invalidate' })).toMatchObject({
      cache: { kind: 'invalidate' },
    })
    expect(header('app=x', { ...asked, 'fly-replay-cache-ttl-secs': 'x' })).toMatchObject({
      cache: null,
    })
  })

  test('as JSON says the same, and how the request changes', () => {
    expect(
      body({
        region: ['ams', 'iad'],
        app: 'blog',
        transform: {
          path: '/new?x=1',
          delete_headers: ['cookie', 'Host'],
          set_headers: [
            { name: 'x-a', value: '1' },
            { name: 'fly-client-ip', value: '6.6.6.6' },
          ],
        },
        cache: { prefix: '/a/*', ttl: 60, invalidate: false },
        allow_bypass: true,
      }),
    ).toEqual({
      ...NOTHING,
      app: 'blog',
      regions: ['ams', 'iad'],
      transform: {
        path: '/new?x=1',
        deleteHeaders: ['cookie'],
        setHeaders: [{ name: 'x-a', value: '1' }],
      },
    })
    expect(
      body({ app: 'x', cache: { prefix: '/a/*', ttl: 60 }, allow_bypass: true }),
    ).toMatchObject({ cache: { kind: 'keep', prefix: '/a/*', ttlSeconds: 60, allowBypass: true } })
    expect(body({ elsewhere: true, state: 's', cache: { invalidate: true } })).toMatchObject({
      elsewhere: true,
      cache: { kind: 'invalidate' },
    })
  })

  test('as JSON that is wrong is refused with the reason', () => {
    const parsed = parseReplayBody('{')
    expect(parsed.kind === 'refused' && parsed.why).toBe('its body is not JSON')
    expect(body([])).toBe('its body is not an object')
    expect(body({ app: 7 })).toBe('app is not text')
    expect(body({ app: 'x', transform: { path: 'http://evil/' } })).toBe(
      'transform.path is no path',
    )
    expect(body({ app: 'x', transform: { set_headers: [{ name: 'a b', value: '' }] } })).toContain(
      'without a good name',
    )
    expect(body({ app: 'x', transform: { set_headers: { a: 'x\r\ny: z' } } })).toContain(
      'without a good name or value',
    )
    expect(body({ app: 'x', transform: { delete_headers: 'cookie' } })).toContain('no list')
  })

  test('whatever an app says, nothing throws, and nothing in it can end a header', () => {
    // As a string of the unit `binary`, which first lists all characters that there are.
    const character = fc
      .integer({ min: 0, max: 0x10f7ff })
      .map((n) => String.fromCodePoint(n < 0xd800 ? n : n + 0x800))
    const characters = fc.array(character, { maxLength: 60 }).map((all) => all.join(''))
    const text = fc.oneof(characters, fc.string({ maxLength: 60 }))
    fc.assert(
      fc.property(text, text, (a, b) => {
        for (const parsed of [
          parseReplayHeader(a, { 'fly-replay-cache': b, 'fly-replay-cache-ttl-secs': b }),
          parseReplayHeader(`app=${a};state=${b};region="${a},${b}"`),
          parseReplayBody(a),
          parseReplayBody(
            JSON.stringify({ app: a, state: b, transform: { set_headers: { x: b } } }),
          ),
        ]) {
          if (parsed.kind === 'refused') continue
          const { replay } = parsed
          const told = [
            replaySource({ instance: 'i', region: 'r', atUs: 1, state: replay.state }),
            replayFailed({ replay, source: 'i', reason: 'timeout', elapsedMs: 1 }),
            ...(replay.transform?.setHeaders.map(({ value }) => value) ?? []),
          ]
          for (const line of told) expect(line).not.toMatch(/[\r\n\0]/)
        }
      }),
    )
  })

  test('who gets the request is told who sent it on; who gets it back, why', () => {
    expect(replaySource({ instance: '1', region: 'ams', atUs: 17, state: 'x' })).toBe(
      'instance=1;region=ams;t=17;state=x',
    )
    const replay = { ...NOTHING, app: 'blog', regions: ['ams', 'iad'] }
    expect(replayFailed({ replay, source: '1', reason: 'no_candidate', elapsedMs: 3.4 })).toBe(
      'app=blog;region="ams,iad";replay_source=1;reason=no_candidate;elapsed_ms=3',
    )
  })
})
