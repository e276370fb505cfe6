import { HELD_MAX, type MachineId } from '@roost/core'
import { describe, expect, test } from 'vitest'
import { type Entry, entryName, parseEntryName } from './entry.ts'
import {
  countsOfMark,
  type ProxyShape,
  renderConfig,
  scriptOf,
  slotsOfMark,
} from './render-config.ts'
import { servicesScript } from './services-script.ts'
import { FILES_MAX, REPLAYED_MAX } from './steer-config.ts'

const shape: ProxyShape = {
  region: 'ams',
  http: { address: '198.18.1.1', port: 80 },
  https: { address: '198.18.1.1', port: 443, certificateFile: '/data/certificate.pem' },
  slots: 3,
  maxConnections: 1000,
  files: {
    config: '/run/haproxy.cfg',
    pid: '/run/haproxy.pid',
    socket: '/run/haproxy.sock',
    masterSocket: '/run/master.sock',
    log: '/run/haproxy.log',
    hostsMap: '/run/files/hosts.map',
    secureMap: '/run/files/secure.map',
    holdScript: '/run/files/hold.lua',
    certificates: {
      dir: '/run/c',
      list: '/run/c/list',
      https: '/run/c/https.list',
      tls: '/run/c/tls.list',
      tokens: '/run/c/tokens.map',
    },
    holdSocket: 'roost-hold',
    askSocket: 'roost-ask',
    logSocket: 'log',
    relaySocket: 'relay',
    replayMap: '/run/files/replay.map',
    accessMap: '/run/files/access.map',
    replaySocket: 'roost-replay',
    againSocket: 'roost-again',
    steerSocket: 'roost-steer',
  },
  user: null,
}
const entry: Entry = {
  machine: '00000000000001' as MachineId,
  role: 'active',
  number: 0,
  address: '10.210.4.2',
  port: 8080,
  maxConnections: 25,
  far: false,
}
const file = (name: string) => `/run/files/${name}`
const services: NonNullable<ProxyShape['services']> = {
  ports: { http: 4284, https: 4285, tcp: 4286, tls: 4287, pg_tls: 4288, passthrough: 4289 },
  pools: { o: 1, c: 1, t: 2 },
  files: {
    names: file('services.map'),
    ports: file('ports.map'),
    options: file('options.map'),
    statics: file('statics.map'),
    script: file('services.lua'),
    httpsList: file('https.list'),
    tlsList: file('tls.list'),
    tlsSocket: 'roost-tls',
    httpsSocket: 'roost-https',
  },
}

describe('the configuration', () => {
  test('holds the servers of each slot, and its mark does not depend on them', () => {
    const empty = renderConfig(shape, new Map())
    const { text, mark } = renderConfig(shape, new Map([['s1', [entry]]]))
    expect(text).toMatch(
      /backend s1\n {2}server 00000000000001\.a0 10\.210\.4\.2:8080 .*maxconn 25 check/,
    )
    expect(mark).toBe(empty.mark)
    expect(slotsOfMark(mark)).toBe(3)
    expect(text).toContain(`description ${mark}\n`)
  })

  test('another number of slots, port or region is another mark', () => {
    const marks = [
      shape,
      { ...shape, slots: 4 },
      { ...shape, region: 'iad' },
      { ...shape, https: null },
      { ...shape, threads: 1 },
    ].map((s) => renderConfig(s, new Map()).mark)
    expect(new Set(marks).size).toBe(5)
    expect(slotsOfMark('someone else')).toBeNull()
  })

  test('without TLS nobody is sent to it', () => {
    const { text } = renderConfig({ ...shape, https: null }, new Map())
    expect(text).not.toContain('redirect')
    expect(text).not.toContain('fd@4')
  })

  test('what only some apps need is in slots and frontends of its own; without TLS there is none of TLS', () => {
    const { text, mark } = renderConfig({ ...shape, services }, new Map([['t1', [entry]]]))
    expect(countsOfMark(mark)).toEqual([3, 1, 1, 2])
    const section = (name: string) => {
      const [, after = ''] = text.split(`\n${name}\n`)
      return after.split(/^(?! )/m)[0] ?? ''
    }
    expect(section('backend s0')).not.toMatch(/dress|options|compression/)
    expect(section('backend o0')).toContain('lua.dress')
    expect(section('backend o0')).not.toContain('compression')
    expect(section('backend c0')).toContain('compression algo gzip')
    expect(section('backend t1')).toContain(
      'server hold.0 abns@roost-hold.t1 pool-max-conn 0 backup',
    )
    expect(section('frontend tls')).toContain('bind abns@roost-tls accept-proxy ssl')
    const plain = renderConfig({ ...shape, https: null, services }, new Map())
    expect(plain.text).not.toMatch(/ ssl crt |roost-tls|:443/)
    expect(plain.mark).not.toBe(mark)
  })

  test('a connection may rest for longer than its client was told, or its next request could meet the closing', () => {
    const { text } = renderConfig(shape, new Map())
    const [announced] = /set-header keep-alive timeout=(\d+)/.exec(text)?.slice(1).map(Number) ?? []
    // HAProxy goes by the shorter of them.
    for (const name of ['client', 'http-keep-alive'])
      expect(
        Number(new RegExp(`^  timeout ${name} (\\d+)s$`, 'm').exec(text)?.[1]),
      ).toBeGreaterThan(announced ?? Number.NaN)
  })

  test('headers may take ten seconds to arrive, a request waits in line for five, and nothing asks by HAProxy’s own client', () => {
    const { text } = renderConfig(shape, new Map())
    expect(text).toMatch(/^ {2}timeout queue 5000$/m)
    expect(text).toMatch(/^ {2}timeout http-request 10000$/m)
    // It would believe any certificate.
    expect(scriptOf(shape.files)).not.toContain('httpclient')
    expect(servicesScript(shape.files.askSocket)).not.toContain('httpclient')
  })

  test('every public port counts what one address has, on the sockets of HAProxy itself nobody does', () => {
    const { text } = renderConfig(shape, new Map())
    const frontends = text.split(/^(?=frontend )/m).slice(1)
    const counted = frontends.filter((part) => part.includes('sc0_conn_cur gt 250 '))
    expect(counted.map((part) => part.split('\n')[0])).toEqual(['frontend http', 'frontend https'])
    expect(frontends.length).toBeGreaterThan(counted.length)
  })

  test('what one app has of the longer ways is counted there, and nowhere else', () => {
    const { text } = renderConfig({ ...shape, services }, new Map())
    const counted = text.split(/^(?=\w)/m).filter((part) => part.includes('sc2'))
    expect(counted.map((part) => part.split('\n')[0])).toEqual(['backend replay', 'backend files'])
    for (const [n, all] of [REPLAYED_MAX, FILES_MAX].entries())
      expect(counted[n]).toContain(`{ sc2_conn_cur gt ${all / 4} }`)
  })

  test('all that clients may have open may have been held, and as many wait as may', () => {
    const { text } = renderConfig({ ...shape, services }, new Map())
    const most = (section: string) =>
      Number(new RegExp(`^${section}\\n(?: .*\\n)*? {2}maxconn (\\d+)$`, 'm').exec(text)?.[1])
    for (const frontend of ['hold', 'hold_tcp'])
      expect(most(`frontend ${frontend}`)).toBe(shape.maxConnections + HELD_MAX)
    expect(most('global')).toBeGreaterThanOrEqual(
      most('frontend http') + most('frontend hold') + REPLAYED_MAX + FILES_MAX,
    )
  })

  test('text that is no address never gets into it', () => {
    for (const bad of [
      { address: '10.0.0.1; shutdown sessions' },
      { address: 'localhost' },
      { port: 0 },
      { port: 1.5 },
      { machine: '1\n' as MachineId },
      { maxConnections: -1 },
    ])
      expect(() => renderConfig(shape, new Map([['s0', [{ ...entry, ...bad }]]]))).toThrow(
        'not a server',
      )
  })

  test('a name says whose server it is', () => {
    expect(parseEntryName(entryName({ ...entry, role: 'backup', number: 12 }))).toEqual({
      machine: entry.machine,
      role: 'backup',
      number: 12,
    })
    expect(parseEntryName('m0')).toBeNull()
  })
})
