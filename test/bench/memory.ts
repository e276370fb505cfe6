import { readdirSync, readFileSync } from 'node:fs'
import type { Bench } from './main.ts'
import type { Report } from './yardstick.ts'

/** Proportional set size of each program of the first host (the one with the server), in MB, right after the playground is up and idle. */
export async function measureMemory(report: Report, bench: Bench): Promise<void> {
  const host = bench.playground.regions[0]?.code ?? ''
  const marks: readonly (readonly [string, RegExp])[] = [
    ['server', new RegExp(`packages/server/src/main\\.ts.*/${bench.name}/`)],
    ['agent', new RegExp(`packages/agent/src/main\\.ts.*/${bench.name}/.*${host}`)],
    ['edge', new RegExp(`packages/edge/src/main\\.ts.*/${bench.name}/.*${host}`)],
    ['haproxy', new RegExp(`haproxy.*/${bench.name}/.*${host}`)],
    ['containerd', new RegExp(`^(\\S*/)?containerd .*/${bench.name}/${host}/`)],
    ['registry', new RegExp(`docker-registry.*/${bench.name}/`)],
    ['keepers', new RegExp(`keep\\.sh.*/${bench.name}/.*${host}`)],
    ['wireguard-go', /wireguard-go/],
  ]
  const sums = new Map<string, number>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      const mark = marks.find(([, pattern]) => pattern.test(command))
      const pss = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
      if (mark && pss) sums.set(mark[0], (sums.get(mark[0]) ?? 0) + Number(pss[1]) / 1024)
    } catch {
      // It ended while we looked.
    }
  }
  const wireguards = sums.get('wireguard-go')
  if (wireguards !== undefined)
    sums.set('wireguard-go', wireguards / bench.playground.regions.length)
  for (const [name, megabytes] of sums) report.figure(`PSS ${name}`, megabytes, 'MB')
  report.figure(
    'PSS of an idle host with server, together',
    [...sums.values()].reduce((a, b) => a + b, 0),
    'MB (promise: at most 450)',
  )
}
