"""Any ``nn.Module`` as a stacked network, differentiated by autograd and ``torch.func``."""
