/** For tests: requests that servers were misled with, as data. Each is one case; what is in it beside the first request is `/smuggled`. */
export interface Attack {
  readonly name: string
  /** Latin-1. */
  readonly text: string
}

/** What nobody but the edge writes, written by a client. */
export const FORGED_ID = '00000000000000000000000000-ams'

export function smuggled(host: string): string {
  return `GET /smuggled HTTP/1.1\r\nHost: ${host}\r\nfly-request-id: ${FORGED_ID}\r\nfly-client-ip: 6.6.6.6\r\nX: `
}

/** Ways to say `chunked` that some understand and some do not. */
const CODINGS: readonly string[] = [
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding : chunked',
  'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
  'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
  'Transfer-Encoding: identity, chunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding: chunked, chunked',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding:',
  'Transfer-Encoding: ,',
  'Transfer-Encoding: chunked,',
  'Transfer-Encoding:\tchunked',
  'Transfer-Encoding:\x0bchunked',
  'Transfer-Encoding: \x0cchunked',
  'Transfer-Encoding: chunked\x00',
  'Transfer-Encoding\x00: chunked',
  ' Transfer-Encoding: chunked',
  'X: y\nTransfer-Encoding: chunked',
  'X: y\rTransfer-Encoding: chunked',
  'Transfer-Encoding\n: chunked',
  'Transfer-Encoding:\r\n chunked',
  'Transfer-Encoding: chun\r\n ked',
  'Transfer-Encoding: Chunked',
  'TRANSFER-ENCODING: CHUNKED',
  'Transfer-Encoding: "chunked"',
  'Transfer-Encoding: chunked;q=1',
  'Transfer-Encoding: c h u n k e d',
  'Transfer_Encoding: chunked',
  'Transfer-Encoding: chunked\r\ntransfer-encoding: cow',
  'Connection: transfer-encoding\r\nTransfer-Encoding: chunked',
]
/** Of a body of five bytes, and what is more. */
const LENGTHS: readonly string[] = [
  '+5',
  '-5',
  '5 5',
  '5,5',
  '5, 6',
  '5\r\nContent-Length: 5',
  '5\r\nContent-Length: 6',
  '0\r\nContent-Length: 5',
  '5\r\ncontent-length : 6',
  '0x5',
  '05',
  '5.0',
  '5e0',
  '5;',
  '"5"',
  '',
  ' ',
  '\x0b5',
  '5\x00',
  '5\r\n 0',
  '18446744073709551621',
  '99999999999999999999999999',
  '4294967301',
]
/** Bodies that say their chunks strangely. */
const CHUNKS: readonly string[] = [
  '5;a=b\r\nhello\r\n0\r\n\r\n',
  '5;\nhello\r\n0\r\n\r\n',
  '5 ;a\r\nhello\r\n0;b\r\n\r\n',
  '5\nhello\n0\n\n',
  '5\rhello\r0\r\r',
  '-1\r\nhello\r\n0\r\n\r\n',
  '+5\r\nhello\r\n0\r\n\r\n',
  '0x5\r\nhello\r\n0\r\n\r\n',
  ' 5\r\nhello\r\n0\r\n\r\n',
  '5 \r\nhello\r\n0\r\n\r\n',
  '\r\n5\r\nhello\r\n0\r\n\r\n',
  '5\r\nhelloXX0\r\n\r\n',
  '5\r\nhello\r\n-0\r\n\r\n',
  '5\r\nhello\r\n00000000000000000\r\n\r\n',
  'ffffffffffffffff\r\nhello\r\n0\r\n\r\n',
  '10000000000000005\r\nhello\r\n0\r\n\r\n',
  '100000005\r\nhello\r\n0\r\n\r\n',
  'g\r\nhello\r\n0\r\n\r\n',
  '\r\nhello\r\n0\r\n\r\n',
  '5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n',
  '5\r\nhello\r\n0\r\nbad trailer\r\n\r\n',
  '5\r\nhello\r\n0\r\n: x\r\n\r\n',
  '5\r\nhello\r\n',
  '5\r\nhello\r\n0\r\n',
  '5\r\nhel',
]

export function smugglingCorpus(host: string, prefix: string): readonly Attack[] {
  const more = smuggled(host)
  const h = `Host: ${host}`
  const made: Attack[] = []
  const add = (name: string, text: string) =>
    made.push({ name, text: text.replace('/PATH', `${prefix}/${made.length}`) })
  const post = (lines: readonly string[], body: string) =>
    `POST /PATH HTTP/1.1\r\n${[h, ...lines].join('\r\n')}\r\n\r\n${body}`
  const get = (...lines: readonly string[]) =>
    `GET /PATH HTTP/1.1\r\n${[h, ...lines].join('\r\n')}\r\n\r\n`
  const ended = `${more}y\r\n\r\n`
  const hex = ended.length.toString(16)

  const both = `0\r\n\r\n${more}`
  add('CL.TE', post([`Content-Length: ${both.length}`, 'Transfer-Encoding: chunked'], both))
  const chunk = `${hex}\r\n${ended}\r\n0\r\n\r\n`
  add('TE.CL', post(['Transfer-Encoding: chunked', `Content-Length: ${hex.length + 2}`], chunk))
  for (const coding of CODINGS) {
    add(`TE.TE ${JSON.stringify(coding)}`, post([`Content-Length: ${both.length}`, coding], both))
    add(`TE alone ${JSON.stringify(coding)}`, post([coding], both))
    add(`CL.0 ${JSON.stringify(coding)}`, post([coding, 'Content-Length: 5'], chunk))
  }
  for (const length of LENGTHS)
    add(
      `CL ${JSON.stringify(length)}`,
      post([`Content-Length:${length && ` ${length}`}`], `hello${ended}`),
    )
  for (const body of CHUNKS)
    add(`chunks ${JSON.stringify(body)}`, post(['Transfer-Encoding: chunked'], `${body}${ended}`))
  for (const body of CHUNKS.slice(-3))
    add(`and no more ${JSON.stringify(body)}`, post(['Transfer-Encoding: chunked'], body))
  add('CL larger than the body', post(['Content-Length: 50'], 'hello'))
  add('CL of GET', `GET /PATH HTTP/1.1\r\n${h}\r\nContent-Length: 5\r\n\r\nhello${ended}`)
  add('CL of HEAD', `HEAD /PATH HTTP/1.1\r\n${h}\r\nContent-Length: 5\r\n\r\nhello${ended}`)
  add('TE of GET', `GET /PATH HTTP/1.1\r\n${h}\r\nTransfer-Encoding: chunked\r\n\r\n${both}`)
  add(
    'TE of HTTP/1.0',
    `POST /PATH HTTP/1.0\r\n${h}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: ${both.length}\r\n\r\n${both}`,
  )
  add(
    'HTTP/1.0 kept',
    `POST /PATH HTTP/1.0\r\n${h}\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello${ended}`,
  )
  add(
    'HTTP/1.0 without a length',
    `POST /PATH HTTP/1.0\r\n${h}\r\nConnection: keep-alive\r\n\r\n${ended}`,
  )
  add('POST without a length', post([], ended))

  add('bare LF', get('X: y').replaceAll('\r\n', '\n') + ended)
  add('bare LF at the end', get('X: y').replace(/\r\n\r\n$/, '\n\n') + ended)
  add('bare LF, then CRLF', get('X: y\n\r').replace(/\r\n\r\n$/, '\r\n') + ended)
  add('bare CR', get('X: y\rZ: z') + ended)
  add('folded header', get('X: y\r\n folded', 'Y: \r\n\tfolded'))
  add('folded first header', `GET /PATH HTTP/1.1\r\n ${h}\r\n${h}\r\n\r\n`)
  add('space before a colon', get('X : y'))
  add('space before the colon of Host', `GET /PATH HTTP/1.1\r\nHost : ${host}\r\n\r\n`)
  add('tab before a colon', get('Content-Length\t: 5') + ended)
  add('no colon', get('Content-Length 5') + ended)
  add('no name', get(': x'))
  for (const one of [
    '\x00',
    '\x01',
    '\x08',
    '\x0b',
    '\x0c',
    '\x1b',
    '\x7f',
    '\x80',
    '\xff',
    '(',
    '"',
    '\t',
  ]) {
    add(`${JSON.stringify(one)} in a name`, get(`X${one}Y: z`))
    add(`${JSON.stringify(one)} in a value`, get(`X: y${one}z`))
    add(`${JSON.stringify(one)} in the target`, `GET /PATH${one} HTTP/1.1\r\n${h}\r\n\r\n`)
    add(`${JSON.stringify(one)} in the method`, `GE${one}T /PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  }
  add('empty line first', `\r\n${get()}`)
  add('many empty lines first', `${'\r\n'.repeat(50)}${get()}`)
  add('space first', ` ${get()}`)
  add('two spaces', `GET  /PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('tabs', `GET\t/PATH\tHTTP/1.1\r\n${h}\r\n\r\n`)
  add('a word more', `GET /PATH HTTP/1.1 x\r\n${h}\r\n\r\n`)
  add('a target with spaces', `GET /PATH HTTP/1.1 /x HTTP/1.1\r\n${h}\r\n\r\n`)
  add('a fragment', `GET /PATH#x HTTP/1.1\r\n${h}\r\n\r\n`)
  add('escaped CRLF', `GET /PATH%0d%0aX:%20y HTTP/1.1\r\n${h}\r\n\r\n`)
  add('HTTP/0.9', 'GET /PATH\r\n')
  add('HTTP/0.9 with headers', `GET /PATH\r\n${h}\r\n\r\n`)
  for (const version of [
    'HTTP/0.9',
    'HTTP/1.2',
    'HTTP/1.',
    'HTTP/1.10',
    'HTTP/2.0',
    'HTTP/3.0',
    'http/1.1',
    'HTTP/1.1\x0b',
    'HTTP/01.1',
    'HTP/1.1',
    'RTSP/1.0',
  ])
    add(JSON.stringify(version), `GET /PATH ${version}\r\n${h}\r\n\r\n`)
  add('another method', `FROBNICATE /PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('a small method', `get /PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('TRACE', `TRACE /PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('absolute target', `GET http://${host}/PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('absolute target of another', `GET http://bank.roost.test/PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('absolute target and no host', `GET http://${host}/PATH HTTP/1.1\r\n\r\n`)
  add('target with a user', `GET http://bank.roost.test@${host}/PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('authority as target', `GET ${host}:80 HTTP/1.1\r\n${h}\r\n\r\n`)
  add('target without a slash', `GET PATH HTTP/1.1\r\n${h}\r\n\r\n`)
  add('CONNECT', `CONNECT bank.roost.test:80 HTTP/1.1\r\n${h}\r\n\r\n${ended}`)
  add('CONNECT to itself', `CONNECT ${host}:80 HTTP/1.1\r\nHost: ${host}:80\r\n\r\n${ended}`)
  add('OPTIONS *', `OPTIONS * HTTP/1.1\r\n${h}\r\n\r\n`)
  add('GET *', `GET * HTTP/1.1\r\n${h}\r\n\r\n`)
  add('two hosts', get('Host: bank.roost.test'))
  add('two hosts, the other first', `GET /PATH HTTP/1.1\r\nHost: bank.roost.test\r\n${h}\r\n\r\n`)
  add('the same host twice', get(h))
  add('no host', 'GET /PATH HTTP/1.1\r\nX: y\r\n\r\n')
  for (const other of [
    `${host}@bank.roost.test`,
    `${host}, bank.roost.test`,
    `${host} bank.roost.test`,
    `${host}:80:81`,
    `${host}:99999999`,
    `${host}:x`,
    `${host}/x`,
    `${host}\x00`,
    '[::1',
    '',
  ])
    add(`host ${JSON.stringify(other)}`, `GET /PATH HTTP/1.1\r\nHost: ${other}\r\n\r\n`)
  for (const named of [
    'X-Forwarded-For, Fly-Client-IP',
    'close, Fly-Client-IP, Fly-Request-Id, Host',
    'Fly-Request-Id\r\nConnection: keep-alive',
    'keep-alive, Content-Length',
    'upgrade, Fly-Client-IP',
  ])
    add(
      `Connection: ${named}`,
      post([`Connection: ${named}`, 'Content-Length: 5'], `hello${ended}`),
    )
  add(
    'h2c',
    get(
      'Connection: Upgrade, HTTP2-Settings',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
    ),
  )
  add(
    'h2c with a body',
    post(['Connection: Upgrade', 'Upgrade: h2c', 'Content-Length: 5'], `hello${ended}`),
  )
  add(
    'websocket with a body',
    post(['Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 5'], `hello${ended}`),
  )
  add(
    'websocket with chunks',
    post(['Connection: Upgrade', 'Upgrade: websocket', 'Transfer-Encoding: chunked'], both),
  )
  add('websocket and more', get('Connection: Upgrade', 'Upgrade: websocket') + ended)
  add('HTTP/2 by prior knowledge that is none', `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${ended}`)
  add('Expect', post(['Expect: 100-continue', 'Content-Length: 5'], `hello${ended}`))
  add('Expect what nobody knows', post(['Expect: x', 'Content-Length: 5'], `hello${ended}`))
  return made
}

export type HeaderList = readonly (readonly [string, string])[]
export interface H2Attack {
  readonly name: string
  readonly headers: HeaderList
  /** Missing: the headers are all. */
  readonly body?: string
}

export function h2Corpus(host: string, prefix: string): readonly H2Attack[] {
  const made: H2Attack[] = []
  const base = (path: string): HeaderList => [
    [':method', 'POST'],
    [':scheme', 'https'],
    [':authority', host],
    [':path', path],
  ]
  const add = (name: string, change: (base: HeaderList) => HeaderList, body?: string) =>
    made.push({
      name: `HTTP/2 ${name}`,
      headers: change(base(`${prefix}/h2-${made.length}`)),
      ...(body === undefined ? {} : { body }),
    })
  const having = (name: string, value: string, body?: string) =>
    add(`${JSON.stringify(name)}: ${JSON.stringify(value)}`, (all) => [...all, [name, value]], body)
  const instead = (name: string, value: string) =>
    add(`${name} ${JSON.stringify(value)}`, (all) => [
      ...all.filter(([key]) => key !== name),
      [name, value],
    ])
  const ended = `${smuggled(host)}y\r\n\r\n`

  having('transfer-encoding', 'chunked', `0\r\n\r\n${ended}`)
  having('transfer-encoding', 'chunked')
  having('connection', 'close')
  having('connection', 'fly-client-ip')
  having('keep-alive', 'timeout=5')
  having('proxy-connection', 'x')
  having('upgrade', 'h2c')
  having('te', 'gzip')
  having('content-length', '0', ended)
  having('content-length', '5', 'hell')
  having('content-length', '5', `hello${ended}`)
  having('content-length', '5')
  having('content-length', '+5', 'hello')
  having('content-length', '5\r\ntransfer-encoding: chunked', 'hello')
  add('two lengths', (all) => [...all, ['content-length', '5'], ['content-length', '6']], 'hello')
  having('x', `y\r\n\r\n${ended}`)
  having('x', 'y\r\nz: 1')
  having('x', 'y\nz: 1')
  having('x', 'y\rz')
  having('x', 'y\x00z')
  having('x', ' y')
  having('x\r\ny', 'z')
  having('x y', 'z')
  having('x:', 'z')
  having('X-Upper', 'z')
  having('', 'z')
  having('x\x00', 'z')
  having('transfer-encoding:chunked', 'z')
  having(':x', 'y')
  having(':path', '/other')
  having(':method', 'GET')
  having(':authority', 'bank.roost.test')
  having('host', 'bank.roost.test')
  having(':status', '200')
  add('pseudo header last', ([first, ...rest]) => [...rest, ['x', 'y'], first ?? ['', '']])
  for (const path of [
    '',
    'x',
    '/ x',
    '/x HTTP/1.1\r\nX: y\r\n\r\n',
    '/x\r\n\r\n',
    '/x\x00',
    '/x#y',
    '/\x7f',
    '*',
    'http://bank.roost.test/',
  ])
    instead(':path', path)
  for (const method of ['', 'GET / HTTP/1.1\r\nX: y\r\n\r\n', 'GET /', 'CONNECT', 'GE\x00T'])
    instead(':method', method)
  for (const scheme of ['', 'http', 'ftp', 'https://bank.roost.test/x?']) instead(':scheme', scheme)
  for (const authority of [
    `${host}\r\nX: y`,
    `${host}@bank.roost.test`,
    `${host}/x`,
    `${host} x`,
    '',
  ])
    instead(':authority', authority)
  for (const name of [':method', ':scheme', ':path', ':authority'])
    add(`no ${name}`, (all) => all.filter(([key]) => key !== name))
  return made
}
