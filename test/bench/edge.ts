import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, run } from '../e2e/terminal.ts'
import type { Bench } from './main.ts'
import { median, type Report } from './yardstick.ts'

const ROUNDS = 7
const SECONDS = 3

/**
 * Requests through the edge against two plain HAProxy processes in the same network namespace before the same machine: one with the
 * very configuration that the edge renders (same logging, same rules) and the machine written into it, and one with no rules at all.
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

  const rendered = readFileSync(`/run/roost/${bench.name}/${first.code}/edge/haproxy.cfg`, 'utf8')
  const sameRules = join(folder, 'same-rules.cfg')
  const map = join(folder, 'hosts.map')
  writeFileSync(map, `${hostname} s0\n`)
  writeFileSync(
    sameRules,
    `${rendered
      .replace(/^ {2}stats socket .*$/m, '')
      .replace(/^ {2}(user|group) .*$/gm, '')
      .replace(/^ {2}lua-load .*$/gm, '')
      // Both: what stands between the first frontend and the slots.
      .replace(/^frontend (https|hold)$[\s\S]*?(?=^backend )/m, '')
      // Services other than HTTP on 80, and slots that are not plain.
      .replace(/^frontend web$[\s\S]*?(?=^backend s0$)/m, '')
      .replace(/^backend o0$[\s\S]*/m, '')
      .replace(/^ {2}bind fd@3$/m, '  bind 127.0.0.1:8081')
      .replace(/map_str\([^)]*hosts[^)]*\)/g, `map_str(${map})`)
      .replace(/^ {2}http-request redirect .*$/gm, '')
      .replace(/^ {2}server .*$/gm, '')
      .replace(
        /^backend s0$/m,
        `backend s0\n  server m ${address}:8080 pool-max-conn -1 pool-purge-delay 1s`,
      )}`,
  )
  const noRules = join(folder, 'no-rules.cfg')
  writeFileSync(
    noRules,
    `global\n  maxconn 4000\ndefaults\n  mode http\n  timeout client 60s\n  timeout connect 5s\n  timeout server 60s\nfrontend f\n  bind 127.0.0.1:8082\n  default_backend b\nbackend b\n  server m ${address}:8080\n`,
  )
  const plain = [sameRules, noRules].map((file) =>
    spawn('nsenter', [`--net=${netns}`, 'haproxy', '-db', '-f', file], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  )
  try {
    const places = {
      edge: `${first.edge.http.replace('http://', '')}:80`,
      same: '127.0.0.1:8081',
      none: '127.0.0.1:8082',
    }
    for (const place of Object.values(places))
      await eventually(
        `${place} answers`,
        10_000,
        async () =>
          (
            await run([
              'nsenter',
              `--net=${netns}`,
              'curl',
              '-sf',
              '-m',
              '2',
              '-o',
              '/dev/null',
              '-H',
              `Host: ${hostname}`,
              `http://${place}/`,
            ])
          ).code === 0,
      )
    for (const [name, connection] of [
      ['keep-alive', 'keep-alive'],
      ['new connections', 'close'],
    ] as const) {
      const rates = { edge: [] as number[], same: [] as number[], none: [] as number[] }
      for (let round = 0; round < ROUNDS; round++)
        for (const place of ['edge', 'same', 'none'] as const)
          rates[place].push(await load(netns, places[place], hostname, connection))
      report.compare({
        name: `requests through the edge, ${name}`,
        ours: median(rates.edge),
        yardstick: median(rates.same),
        unit: '/s',
        against: 'bare HAProxy, same logging and rules',
        goal: { kind: 'at-least', ratio: 0.9 },
      })
      report.compare({
        name: `requests through the edge, ${name}`,
        ours: median(rates.edge),
        yardstick: median(rates.none),
        unit: '/s',
        against: 'bare HAProxy, no rules',
        goal: null,
      })
    }
  } finally {
    for (const child of plain) child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
    await bench.ok(['apps', 'destroy', 'answer', '--yes'])
  }
}

async function load(
  netns: string,
  place: string,
  hostname: string,
  connection: string,
): Promise<number> {
  const { stdout, stderr } = await run([
    'nsenter',
    `--net=${netns}`,
    'wrk',
    '-t1',
    '-c32',
    `-d${SECONDS}s`,
    '-H',
    `Host: ${hostname}`,
    '-H',
    `Connection: ${connection}`,
    `http://${place}/`,
  ])
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]
  if (rate === undefined || /Non-2xx/.test(stdout))
    throw new Error(`wrk at ${place}: ${stdout} ${stderr}`)
  return Number(rate)
}
