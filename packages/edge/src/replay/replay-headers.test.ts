import { describe, expect, test } from 'vitest'
import { requestHeaders, responseHeaders } from './replay-headers.ts'

const leg = { added: {}, transform: null, upgrade: null }

describe('headers of a request that is handed on', () => {
  test('are those of the client in their order, without what is for one hop', () => {
    const raw = [
      'Host',
      'a',
      'Connection',
      'x',
      'Set-A',
      '1',
      'set-a',
      '2',
      'Expect',
      '100-continue',
    ]
    expect(requestHeaders(raw, { ...leg, added: { 'roost-slot': 's1' } })).toEqual([
      ...['Host', 'a', 'Set-A', '1', 'set-a', '2', 'roost-slot', 's1', 'connection', 'close'],
    ])
  })

  test('say how long a body is as the client said it', () => {
    const chunked = ['transfer-encoding', 'chunked']
    expect(requestHeaders(chunked, leg)).toEqual([...chunked, 'connection', 'close'])
    expect(requestHeaders(['content-length', '9'], leg)).toEqual([
      ...['content-length', '9', 'connection', 'close'],
    ])
  })

  test('change as the app said', () => {
    const transform = {
      path: null,
      deleteHeaders: ['Cookie'],
      setHeaders: [{ name: 'x-a', value: 'new' }],
    }
    expect(
      requestHeaders(['cookie', 'a', 'X-A', 'old', 'x-b', 'kept'], { ...leg, transform }),
    ).toEqual(['x-b', 'kept', 'x-a', 'new', 'connection', 'close'])
  })

  test('keep the wish to go on with another protocol', () => {
    const raw = ['connection', 'Upgrade', 'upgrade', 'websocket', 'sec-websocket-key', 'k']
    expect(requestHeaders(raw, { ...leg, upgrade: 'websocket' })).toEqual([
      ...['sec-websocket-key', 'k', 'connection', 'upgrade', 'upgrade', 'websocket'],
    ])
  })
})

test('an answer loses what was said to edges', () => {
  const raw = [
    'Roost-Answered',
    'x',
    'fly-replay-cache',
    'invalidate',
    'Set-Cookie',
    'a',
    'set-cookie',
    'b',
  ]
  expect(responseHeaders(raw)).toEqual(['Set-Cookie', 'a', 'set-cookie', 'b'])
})
