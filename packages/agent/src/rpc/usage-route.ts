import { type AgentUsage, agentUsageReply } from '@roost/api'
import type { FastifyInstance } from 'fastify'

/** `GET /agent/v1/usage`: what takes room on this host. */
export function registerUsageRoute(app: FastifyInstance, usage: () => Promise<AgentUsage>): void {
  app.get('/agent/v1/usage', async () => agentUsageReply.parse(await usage()))
}
