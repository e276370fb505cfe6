import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { edgeConfig } from '@roost/api'
import { createLogger, startWatchdog, systemClock, untilShutdown } from '@roost/base'
import { createEdgePeers } from './certificate/edge-peers.ts'
import { openCountryDatabase } from './dns/client-location.ts'
import { startEdge } from './edge.ts'
import { createServerLink } from './link/server-link.ts'
import { createEdgeAsker } from './probe/edge-asker.ts'
import { createEdgeClients } from './probe/edge-clients.ts'
import { type ReplayerStart, runReplayer } from './replay/replayer-main.ts'

const { values } = parseArgs({
  options: { config: { type: 'string' }, replayer: { type: 'string' } },
})
// The same program as another process: what it carries goes on when the edge is started anew.
if (values.replayer !== undefined) await runReplayer(JSON.parse(values.replayer) as ReplayerStart)
else await runEdge()

async function runEdge(): Promise<void> {
  if (values.config === undefined) {
    process.stderr.write('usage: node main.ts --config FILE\n')
    process.exit(2)
  }
  const config = edgeConfig.parse(JSON.parse(readFileSync(values.config, 'utf8')))
  const log = createLogger({ program: 'edge', file: config.logFile })
  startWatchdog({ program: 'edge', log, logFile: config.logFile })
  const tls = {
    ca: readFileSync(config.tls.ca, 'utf8'),
    certificate: readFileSync(config.tls.certificate, 'utf8'),
    key: readFileSync(config.tls.key, 'utf8'),
  }
  const clients = createEdgeClients({ tls })
  const closers: (() => Promise<void>)[] = []
  untilShutdown(log, closers)
  const edge = await startEdge({
    config,
    link: createServerLink({ url: config.serverUrl, tls }),
    asker: createEdgeAsker(clients, config.http.port),
    edges: createEdgePeers(clients),
    countryOf: openCountryDatabase(log),
    clock: systemClock,
    log,
  })
  closers.push(() => edge.close())
}
