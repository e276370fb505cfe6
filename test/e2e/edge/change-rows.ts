import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { eventually } from '../terminal.ts'
import { keepSpeaking, speak } from './clients.ts'
import { alone, holds, type Row } from './row.ts'

const NEAR = ['ams', 'iad'] as const

export const CHANGES: readonly Row[] = [
  alone(
    holds(
      'deploy',
      'A deploy loses no connection and no packet, from near and from afar',
      'node:net',
      async (world) => {
        const flows = NEAR.map((region) => [
          keepSpeaking(world, region, 'tcp', 9000),
          keepSpeaking(world, region, 'udp', 5060),
        ])
        const folder = world.folder('raw')
        const file = join(folder, 'server.js')
        const source = readFileSync(file, 'utf8').replace("version = 'one'", "version = 'two'")
        writeFileSync(file, source)
        await world.terminal.ok(['deploy'], { cwd: folder })
        for (const region of NEAR)
          for (const [kind, port] of [
            ['tcp', 9000],
            ['udp', 5060],
          ] as const)
            await eventually(`${kind} of the new release by ${region}`, 15_000, async () =>
              (await speak(world, region, kind, port)).startsWith('raw iad two'),
            )
        for (const [tcp, udp] of flows) {
          const connections = await tcp?.()
          expect(connections?.failures).toEqual([])
          expect(Object.keys(connections?.answers ?? {}).sort()).toEqual([
            'raw iad one tcp / ping',
            'raw iad two tcp / ping',
          ])
          const packets = await udp?.()
          expect(packets?.failures).toEqual([])
          expect(Object.keys(packets?.answers ?? {}).length).toBe(2)
        }
      },
    ),
  ),
  alone(
    holds(
      'killed',
      'Each program of a host may be killed with -9: its services are there again',
      'node:net',
      async (world) => {
        for (const program of ['edge', 'haproxy', 'agent']) {
          await world.fault('kill', program, '--region', 'iad')
          await eventually(`services after kill -9 of ${program}`, 15_000, async () => {
            const tcp = await speak(world, 'iad', 'tcp', 9000)
            const udp = await speak(world, 'iad', 'udp', 5060)
            return [tcp, udp].every((answer) => answer.startsWith('raw iad two'))
          })
        }
      },
    ),
  ),
  alone(
    holds(
      'ports-given-back',
      'An app that is destroyed gives its ports back',
      'node:net',
      async (world) => {
        await world.terminal.ok(['apps', 'destroy', 'raw', '--yes'])
        await eventually('the port is closed', 15_000, async () =>
          (await speak(world, 'iad', 'tcp', 9000)).startsWith('failed'),
        )
      },
    ),
  ),
]
