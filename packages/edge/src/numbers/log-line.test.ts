import { expect, test } from 'vitest'
import { parseConnectionLine, parseFailedHandshake, parseLogLine } from './log-line.ts'

test('what HAProxy says of an answer', () => {
  expect(parseLogLine('edge 00000000000001.a0 200 120 340 0 1 7 9 - - shop.roost.test')).toEqual({
    at: 'edge',
    hostname: 'shop.roost.test',
    machine: '00000000000001',
    detour: false,
    connectMs: 1,
    answer: { status: 200, bytesIn: 120, bytesOut: 340, ms: 8 },
    totalMs: 9,
    access: null,
    handshake: null,
  })
  expect(
    parseLogLine('detour <NOSRV> 503 120 340 -1 -1 -1 9000 - - shop.roost.test'),
  ).toMatchObject({
    at: 'detour',
    machine: null,
    detour: false,
    connectMs: null,
    answer: { status: 503, ms: null },
  })
  expect(parseLogLine('edge hold.0 200 120 340 0 0 900 901 - - x')).toMatchObject({
    machine: null,
    detour: true,
  })
})

test('a WebSocket has no time, and who left has no status', () => {
  expect(
    parseLogLine('edge 00000000000001.b3 101 1 2 0 0 5 60000 - - shop.roost.test')?.answer.ms,
  ).toBeNull()
  expect(
    parseLogLine('edge 00000000000001.a0 -1 1 2 0 0 -1 50 - - shop.roost.test')?.answer,
  ).toEqual({
    status: 0,
    bytesIn: 1,
    bytesOut: 2,
    ms: null,
  })
})

test('a host name is what a client wrote, and nothing else is taken for a line', () => {
  const line =
    'edge 00000000000001.a0 200 1 2 0 0 5 6 - - edge 00000000000002.a0 500 1 2 0 0 5 6 - - x'
  expect(parseLogLine(line)).toMatchObject({ machine: '00000000000001', answer: { status: 200 } })
  for (const bad of ['', 'edge', 'edge x 200', '<134>edge 00000000000001.a0 200 1 2 0 0 5 6 - - x'])
    expect(parseLogLine(bad)).toBeNull()
})

test('who asked for what, where somebody listens', () => {
  const of = (answered: string, access: string) =>
    parseLogLine(`edge hold.0 200 1 2 0 0 5 6 ${answered} ${access} shop.roost.test`)?.access
  expect(of('00000000000002.a0', '192.0.2.7|GET|01ABC-ams|/a|b?c=|d')).toEqual({
    client: '192.0.2.7',
    method: 'GET',
    requestId: '01ABC-ams',
    path: '/a|b?c=|d',
    machine: '00000000000002',
  })
  expect(of('-', '2001:db8::1|POST|01ABC-ams|')).toMatchObject({ path: '', machine: null })
  expect(of('-', '-')).toBeNull()
})

test('what HAProxy says of a connection', () => {
  expect(parseConnectionLine('tcp edge 00000000000001.a0 120 340 0 1 61000 t3')).toEqual({
    at: 'edge',
    slot: 't3',
    machine: '00000000000001',
    detour: false,
    connectMs: 1,
    bytesIn: 120,
    bytesOut: 340,
    totalMs: 61_000,
    handshake: null,
  })
  expect(parseConnectionLine('tcp edge hold.0 1 2 0 0 900 t3')).toMatchObject({
    machine: null,
    detour: true,
  })
  expect(parseConnectionLine('tcp detour <NOSRV> 0 0 -1 -1 900 -')).toMatchObject({
    at: 'detour',
    machine: null,
    detour: false,
    connectMs: null,
  })
  // Another frontend tells of these.
  for (const line of ['tcp edge tls 1 2 0 0 9 -', 'tcp edge https 1 2 0 0 9 -', 'tcp edge', ''])
    expect(parseConnectionLine(line)).toBeNull()
  expect(parseLogLine('tcp edge 00000000000001.a0 120 340 0 1 61000 t3')).toBeNull()
})

test('how TLS began, with the first request of a connection', () => {
  const line = (began: string) =>
    parseLogLine(`edge/${began} 00000000000001.a0 200 1 2 0 0 5 6 - - x`)?.handshake
  expect(line('12/TLSv1.3')).toEqual({ ms: 12, version: 'TLSv1.3' })
  expect(line('0/TLSv1.3')).toBeNull()
  expect(
    parseConnectionLine('tcp edge/3/TLSv1.2 00000000000001.a0 120 340 0 1 61000 t3'),
  ).toMatchObject({ slot: 't3', handshake: { ms: 3, version: 'TLSv1.2' } })
})

test('TLS that did not come about', () => {
  expect(parseFailedHandshake('failed SSL handshake failure|B.example')).toBe('B.example')
  expect(parseFailedHandshake('failed Timeout during SSL handshake|-')).toBe('-')
  for (const other of [
    'failed Received something which does not look like a PROXY header|-',
    'failed SSL handshake failure|a|b.example',
    'failed SSL handshake failure|a%0Aedge%201',
    '',
  ])
    expect(parseFailedHandshake(other)).toBeNull()
})
