import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, run } from '../e2e/terminal.ts'
import { load, type Measured, type ReverseProxy, startOthers } from './edge-proxies.ts'
import type { Bench } from './main.ts'
import { median, type Report } from './yardstick.ts'

const ROUNDS = 5
const SECONDS = 2
/** How many of the others' requests per second ours should answer. */
const GOALS: Readonly<Record<string, number>> = {
  'HAProxy, same rules and logging': 0.9,
  'HAProxy, no rules': 0.7,
  Caddy: 2.5,
}

/**
 * The edge against other proxies in the same network namespace before the same machine, each with as many threads: HAProxy with the very
 * configuration that the edge renders, HAProxy with no rules at all, nginx, Caddy, and the plainest proxy in Node.
 */
export async function measureEdge(report: Report, bench: Bench): Promise<void> {
  const first = bench.playground.regions[0]
  if (!first) return
  const netns = `/run/netns/${bench.name}-${first.code}`
  const folder = mkdtempSync(join(tmpdir(), 'roost-bench-edge-'))
  const app = join(folder, 'answer')
  mkdirSync(app)
  // The machine answers with HAProxy itself: as fast as can be, so that the proxies are what is measured.
  writeFileSync(
    join(app, 'Dockerfile'),
    'FROM debian:bookworm-slim\nRUN apt-get update && apt-get install -y --no-install-recommends haproxy\nCOPY haproxy.cfg /haproxy.cfg\nEXPOSE 8080\nCMD ["haproxy", "-f", "/haproxy.cfg"]\n',
  )
  writeFileSync(
    join(app, 'haproxy.cfg'),
    `global\n  maxconn 2000\ndefaults\n  mode http\n  timeout client 60s\n  timeout connect 5s\n  timeout server 60s\nfrontend f\n  bind :8080\n  http-request return status 200 content-type text/plain string "${'x'.repeat(1024)}"\n`,
  )
  await bench.ok(['launch', '--yes', '--name', 'answer', '--regions', first.code, '--ha=false'], {
    cwd: app,
  })
  const { hostname, machines } = await bench.json(['status', '-a', 'answer'])
  const id = machines[0]?.id ?? ''
  const routes = (
    await run(['nsenter', `--net=${netns}`, 'ip', '-4', 'route', 'show', 'dev', `v${id}`])
  ).stdout
  const address = /^(10\.210\.\d+\.\d+)/m.exec(routes)?.[1] ?? ''

  const certificate = join(folder, 'both.pem')
  const made = await run([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
    ...[
      '-nodes',
      '-days',
      '2',
      '-subj',
      `/CN=${hostname}`,
      '-addext',
      `subjectAltName=DNS:${hostname}`,
    ],
    ...['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'certificate.pem')],
  ])
  if (made.code !== 0) throw new Error(made.stderr)
  const read = (name: string) => readFileSync(join(folder, name), 'utf8')
  writeFileSync(certificate, read('certificate.pem') + read('key.pem'))

  const runDir = `/run/roost/${bench.name}/${first.code}`
  const rendered = readFileSync(`${runDir}/edge/haproxy.cfg`, 'utf8')
  const threads = Number(/^ {2}nbthread (\d+)$/m.exec(rendered)?.[1])
  const plan = {
    ...{ netns, folder, hostname, certificate, rendered },
    machine: `${address}:8080`,
    threads: threads > 0 ? threads : 1,
  }
  const pidIn = (file: string) => Number(readFileSync(`${runDir}/${file}`, 'utf8').trim())
  const ours: ReverseProxy = {
    ...{ name: 'the edge', http: first.edge.http, https: first.edge.https },
    // HAProxy and the program that reads its log.
    pids: () => [pidIn('edge/haproxy.pid'), pidIn('pid/edge.pid')],
  }
  const others = startOthers(plan)
  try {
    const proxies = [ours, ...others.proxies]
    for (const proxy of proxies)
      for (const url of [proxy.http, proxy.https])
        await eventually(`${proxy.name} answers at ${url}`, 10_000, async () => {
          const asked = ['curl', '-skf', '-m', '2', '-o', '/dev/null', '-H', `Host: ${hostname}`]
          return (await run(['nsenter', `--net=${netns}`, ...asked, `${url}/`])).code === 0
        })
    for (const scheme of ['http', 'https'] as const)
      for (const close of [false, true]) {
        const how = `${scheme.toUpperCase()}, ${close ? 'new connections' : 'keep-alive'}`
        const all = new Map<ReverseProxy, Measured[]>(proxies.map((proxy) => [proxy, []]))
        for (let round = 0; round < ROUNDS; round++)
          for (const [proxy, measured] of all)
            measured.push(await load(plan, proxy, { scheme, close, seconds: SECONDS }))
        const of = (proxy: ReverseProxy, what: keyof Measured) =>
          median((all.get(proxy) ?? []).map((measured) => measured[what]))
        for (const proxy of others.proxies) {
          const ratio = GOALS[proxy.name]
          report.compare({
            name: `requests through the edge, ${how}`,
            ...{ ours: of(ours, 'perSecond'), yardstick: of(proxy, 'perSecond') },
            ...{ unit: '/s', against: proxy.name },
            goal: ratio === undefined ? null : { kind: 'at-least', ratio },
          })
        }
        for (const proxy of proxies) {
          report.figure(`${proxy.name}, ${how}: p50`, of(proxy, 'p50Ms'), 'ms')
          report.figure(`${proxy.name}, ${how}: p99`, of(proxy, 'p99Ms'), 'ms')
          report.figure(`${proxy.name}, ${how}: processor`, of(proxy, 'processorUs'), 'µs/request')
        }
      }
  } finally {
    others.stop()
    rmSync(folder, { recursive: true, force: true })
    await bench.ok(['apps', 'destroy', 'answer', '--yes'])
  }
}
