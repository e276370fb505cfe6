import type { Bench } from './main.ts'
import { type Report, timed } from './yardstick.ts'

interface Deployed {
  readonly times_ms?: Readonly<Record<string, number>>
}

/** First and second deploy of the example to three regions, split into their parts. */
export async function measureDeploys(report: Report, bench: Bench): Promise<void> {
  const folder = bench.folder('chat')
  const regions = bench.playground.regions.map((region) => region.code).join(',')
  let parts: Deployed = {}
  const first = await timed(async () => {
    parts = await bench.json<Deployed>(
      ['launch', '--yes', '--name', 'chat', '--regions', regions],
      { cwd: folder },
    )
  })
  report.figure('first deploy to three regions', first / 1000, 's')
  for (const [name, ms] of Object.entries(parts.times_ms ?? {}))
    report.figure(`  first deploy: ${name}`, ms / 1000, 's')
  bench.edit(folder)
  const second = await timed(async () => {
    parts = await bench.json<Deployed>(['deploy'], { cwd: folder })
  })
  report.figure('second deploy, a line changed', second / 1000, 's')
  for (const [name, ms] of Object.entries(parts.times_ms ?? {}))
    report.figure(`  second deploy: ${name}`, ms / 1000, 's')
}
